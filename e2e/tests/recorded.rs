//! Real nginx still does what was recorded: the yardstick is checked before anything is measured with it.
#![forbid(unsafe_code)]

use tidegate_e2e::proxy::Kind;
use tidegate_e2e::stage::play;
use tidegate_e2e::{case, recorded};

/// Plays one case; every test in `cases.rs` calls this.
fn check(area: &str, name: &str) {
    let case = case::one(area, name);
    let expected = recorded::of(&case);
    let outcome =
        play(Kind::Nginx, &case, Some(&expected)).unwrap_or_else(|error| panic!("{area}/{name}: {error}"));
    let difference = outcome.difference(&expected, "nginx now");
    assert!(difference.is_empty(), "{area}/{name}: nginx no longer does this\n{difference}");
}

include!(concat!(env!("OUT_DIR"), "/cases.rs"));
