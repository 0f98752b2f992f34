//! The `holdline` binary: arguments → command → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match holdline::cli::main(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("holdline: {failure}");
            failure.exit_code()
        }
    }
}
