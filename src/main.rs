//! The `holdline` binary: arguments → command → exit code.

use std::process::ExitCode;

use holdline::cli::Failure;

fn main() -> ExitCode {
    match holdline::cli::main(std::env::args_os()) {
        Ok(code) => code,
        Err(failure) => {
            if !matches!(failure, Failure::No) {
                eprintln!("holdline: {failure}");
            }
            failure.exit_code()
        }
    }
}
