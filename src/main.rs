//! The `holdline` binary: arguments → command → exit code.

use std::process::ExitCode;

/// Every message is a few dozen short-lived allocations of every size.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match holdline::cli::main(std::env::args_os()) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.is_silent() {
                eprintln!("holdline: {failure}");
            }
            failure.exit_code()
        }
    }
}
