//! The `showcaller` binary: the library with accounts alone.

use std::process::ExitCode;

fn main() -> ExitCode {
    showcaller::App::new().run()
}
