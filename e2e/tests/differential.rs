//! Tidegate beside what nginx was recorded to do: the bytes both neighbours got, and how each connection ended.
#![forbid(unsafe_code)]

use tidegate_e2e::proxy::Kind;
use tidegate_e2e::stage::play;
use tidegate_e2e::{case, recorded};

/// Plays one case; every test in `cases.rs` calls this.
fn check(area: &str, name: &str) {
    let case = case::one(area, name);
    if case.differs.is_some() {
        // On purpose not nginx's behaviour: the script's own `ours` lines say what is right.
        play(Kind::Tidegate, &case, None).unwrap_or_else(|error| panic!("{area}/{name}: {error}"));
        return;
    }
    let expected = recorded::of(&case);
    let outcome =
        play(Kind::Tidegate, &case, Some(&expected)).unwrap_or_else(|error| panic!("{area}/{name}: {error}"));
    let difference = outcome.difference(&expected, "tidegate");
    assert!(difference.is_empty(), "{area}/{name}: not what nginx did\n{difference}");
}

include!(concat!(env!("OUT_DIR"), "/cases.rs"));
