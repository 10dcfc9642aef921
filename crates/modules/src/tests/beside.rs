//! What nginx 1.31 answered on the same configuration, recorded in `testdata`: a line is host and target, status, then
//! `Location` or body.

use super::{Directory, shown};
use crate::MODULES;
use http::testing::{TestServer, get};

/// Asks for every recorded line; all that differ are shown together.
#[track_caller]
fn check(config: &str, recorded: &str) {
    let directory = Directory::new(&[("a.html", "hello"), ("d/index.html", "index"), ("e/x.txt", "x")]);
    let root = directory.0.to_str().expect("temporary directories have plain names");
    let server = TestServer::new(&config.replace("ROOT", root), MODULES);
    let mut wrong = String::new();
    for line in recorded.lines() {
        let (target, expected) = line.split_once(' ').expect("a target and an answer");
        let (host, path) = match target.find('/') {
            Some(0) | None => ("localhost", target),
            Some(at) => target.split_at(at),
        };
        let seen = shown(&server.ask(&get(host, path))).replace(root, "ROOT");
        if seen != expected {
            wrong.push_str(&format!("{target}\n  nginx {expected}\n  ours  {seen}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

macro_rules! beside {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(
                include_str!(concat!("../../testdata/", stringify!($name), ".conf")),
                include_str!(concat!("../../testdata/", stringify!($name), ".expected")),
            );
        })*
    };
}

beside! { locations rewrite vars map files servers }
