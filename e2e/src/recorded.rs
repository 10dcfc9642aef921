//! nginx's outcomes, kept in `recorded/AREA.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;

use serde_json::{Map, Value, json};

use crate::case::{self, Case};
use crate::outcome::Outcome;
use crate::places;
use crate::proxy::Kind;
use crate::stage::play;

/// The recorded outcome of one case. Panics when there is none.
pub fn of(case: &Case) -> Outcome {
    let recorded = area(&case.area);
    recorded
        .get(&case.name)
        .cloned()
        .unwrap_or_else(|| panic!("{} is not recorded: run `cargo xtask record`", case.name))
}

/// All recorded outcomes of one file of cases; empty when it was never recorded.
pub fn area(area: &str) -> BTreeMap<String, Outcome> {
    let Ok(text) = fs::read_to_string(path(area)) else { return BTreeMap::new() };
    let value: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("recorded/{area}.json: {error}"));
    let cases = value["cases"].as_object().into_iter().flatten();
    cases.filter_map(|(name, case)| Some((name.clone(), Outcome::from_json(case)?))).collect()
}

/// Plays every case of an area twice with nginx and keeps what it saw. An error names every case that failed or whose two
/// runs differ; then nothing is written.
pub fn record(area: &str) -> Result<usize, String> {
    let cases = case::of_area(area);
    let mut recorded = Map::new();
    let mut errors = String::new();
    // Nearly all of the time is waiting for silence, so several at once cost nothing.
    for some in cases.chunks(6) {
        let played: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|case| (case, scope.spawn(|| twice(case)))).collect();
            threads.into_iter().map(|(case, thread)| (case, thread.join())).collect()
        });
        for (case, result) in played {
            match result.unwrap_or_else(|_| Err("panicked".into())) {
                Ok(outcome) => drop(recorded.insert(case.name.clone(), outcome.to_json())),
                Err(error) => errors += &format!("{area}/{}: {error}\n", case.name),
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let nginx = places::nginx().and_then(|path| places::nginx_version(&path));
    let text =
        serde_json::to_string_pretty(&json!({ "nginx": nginx, "cases": recorded })).expect("plain values");
    fs::write(path(area), text + "\n").map_err(|error| format!("recorded/{area}.json: {error}"))?;
    Ok(cases.len())
}

fn twice(case: &Case) -> Result<Outcome, String> {
    let first = play(Kind::Nginx, case, None)?;
    let second = play(Kind::Nginx, case, Some(&first))?;
    let difference = second.difference(&first, "second time");
    if difference.is_empty() { Ok(first) } else { Err(format!("not the same twice\n{difference}")) }
}

fn path(area: &str) -> PathBuf {
    places::workspace().join("e2e/recorded").join(format!("{area}.json"))
}
