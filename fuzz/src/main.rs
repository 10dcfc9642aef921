//! `cargo xtask fuzz`: a target for as long as one likes, on stable; or one input again.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_fuzz::{TARGETS, Target, play, target};

const HELP: &str = "cargo xtask fuzz TARGET [SECONDS]     random inputs, 60 s
cargo xtask fuzz TARGET FILE          this input, as libFuzzer or a failure has left it
cargo xtask fuzz TARGET --samples DIR writes the samples there, a corpus to begin with";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let known = args.first().and_then(|name| target(name));
    let done = match (known, args.get(1..).unwrap_or_default()) {
        (Some(target), []) => for_seconds(target, 60),
        (Some(target), ["--samples", folder]) => samples(target, folder),
        (Some(target), [word]) => match word.parse() {
            Ok(seconds) => for_seconds(target, seconds),
            Err(_) => {
                fs::read(word).map(|input| (target.run)(&input)).map_err(|error| format!("{word}: {error}"))
            }
        },
        _ => Err(format!("{HELP}\ntargets: {}", TARGETS.map(|target| target.name).join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn for_seconds(target: &Target, seconds: u64) -> Result<(), String> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0;
    let played = play(target, seed, |round| {
        rounds = round;
        Instant::now() < until
    });
    println!("{}: {rounds} rounds, SEED={seed}", target.name);
    let Err(failure) = played else { return Ok(()) };
    let path = env::temp_dir().join(format!("{}-{seed}", target.name));
    fs::write(&path, &failure.input).map_err(|error| error.to_string())?;
    Err(format!("{failure}\nthe input is in {}", path.display()))
}

fn samples(target: &Target, folder: &str) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
    for (number, sample) in (target.samples)().into_iter().enumerate() {
        fs::write(format!("{folder}/sample-{number}"), sample)
            .map_err(|error| format!("{folder}: {error}"))?;
    }
    Ok(())
}
