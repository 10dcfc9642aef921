//! A large file is sent in several turns of its worker, however fast the client takes it.

use super::Directory;
use crate::MODULES;
use http::testing::TestServer;

const MEGABYTE: usize = 1024 * 1024;

/// How often the kernel was asked while a file of eight megabytes was sent.
#[track_caller]
fn check(range: &str, expected_bytes: usize, expected_turns: u64) {
    let content = "x".repeat(8 * MEGABYTE);
    let directory = Directory::new(&[("large", &content)]);
    let server = TestServer::new(&format!("root {};", directory.0.display()), MODULES);
    let request = format!("GET /large HTTP/1.1\r\nHost: a\r\n{range}\r\n");
    let (answer, turns) = reactor::Reactor::new().expect("a loop can be made").run(&(), async {
        let before = reactor::turn();
        let answer = server.serve(request.as_bytes()).await;
        (answer, reactor::turn() - before)
    });
    assert!(answer.body.len() >= expected_bytes, "{} bytes", answer.body.len());
    assert!(turns >= expected_turns, "{turns} turns");
}

#[test]
fn whole() {
    check("", 8 * MEGABYTE, 7);
}

#[test]
fn in_parts() {
    let parts: Vec<String> =
        (0..80).map(|at| format!("{}-{}", at * 100_000, at * 100_000 + 99_999)).collect();
    check(&format!("Range: bytes={}\r\n", parts.join(",")), 8_000_000, 7);
}
