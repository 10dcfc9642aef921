//! `cargo xtask record [AREA...]`: what nginx does in every case, written to `e2e/recorded/`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use tidegate_e2e::{case, recorded};

fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let areas = if named.is_empty() { case::areas() } else { named };
    let mut failed = false;
    for area in areas {
        match recorded::record(&area) {
            Ok(count) => println!("{area}: {count} cases"),
            Err(error) => {
                eprintln!("{error}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
