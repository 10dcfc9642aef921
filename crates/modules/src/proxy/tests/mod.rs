//! Requests passed to scripted upstreams on loopback: what they receive, and what comes back.

mod backend;
mod bytes;
mod exchange;
mod hostile;
mod tls;
mod websocket;

use std::path::PathBuf;

use http::testing::{Answer, TestServer};
use reactor::Reactor;

use crate::MODULES;
use backend::Backend;

/// Paths and what is there.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// What one configuration made of some requests.
struct Seen {
    answers: Vec<Answer>,
    error_log: String,
    access_log: String,
    /// What the upstream received, one text a request.
    received: Vec<String>,
}

/// Serves `requests` one after another with `config`, in which `PORT` is the upstream's port and `DEAD` one where nobody
/// listens. Each thread has its own pools, so each call gets a thread.
fn serve(config: &str, backend: &Backend, requests: &[&str]) -> Seen {
    serve_with(config, backend, requests, Vec::new())
}

/// The same where there are files.
fn serve_with(config: &str, backend: &Backend, requests: &[&str], files: Files) -> Seen {
    let dead = backend::DEAD_PORT;
    let config = config.replace("PORT", &backend.port.to_string()).replace("DEAD", &dead.to_string());
    let config = format!("error_log /log/error.log info; events {{ }} http {{ {config}\n }}");
    let (answers, error_log, access_log) = std::thread::scope(|scope| {
        scope
            .spawn(|| serve_here(&config, requests, files))
            .join()
            .expect("the server's thread does not panic")
    });
    Seen { answers, error_log, access_log, received: backend.received() }
}

fn serve_here(config: &str, requests: &[&str], files: Files) -> (Vec<Answer>, String, String) {
    let server = TestServer::with_files(config, MODULES, files);
    let answers = Reactor::new().expect("a loop can be made").run(&(), async {
        let mut answers = Vec::new();
        for request in requests {
            answers.push(server.serve(request.as_bytes()).await);
        }
        answers
    });
    (answers, server.world.log("/log/error.log"), server.world.log("/log/access.log"))
}

/// `GET target`, as a browser begins it.
fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n")
}

/// One exchange with an upstream that says `answer`: `status body` of the response.
#[track_caller]
fn check(config: &str, answer: &'static str, request: &str, expected: &str) -> Seen {
    let backend = Backend::new(vec![vec![answer]]);
    let seen = serve(config, &backend, &[request]);
    let got = &seen.answers[0];
    let body = String::from_utf8_lossy(&got.body);
    let body = if body.starts_with("<html>") { "" } else { &body };
    let end = if got.end == "keepalive" { "" } else { got.end };
    assert_eq!(format!("{} {body} {end}", got.status).trim_end(), expected, "{config}\n{}", seen.error_log);
    seen
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
