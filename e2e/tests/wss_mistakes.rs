//! What people get wrong about certificates: `-t` says of it what nginx says, and on a terminal what to do.
#![forbid(unsafe_code)]

use std::process::Command;

use tidegate_e2e::certificates::{Authority, Kind as Key};
use tidegate_e2e::places;
use tidegate_e2e::proxy::{Kind, Place, Proxy};

const PAIR: &str = "ssl_certificate a.crt; ssl_certificate_key a.key;";

/// In a server with `listen ... ssl`; `@PAIR@` is a good pair.
const MISTAKES: [&str; 31] = [
    "@PAIR@",
    "",
    "ssl_certificate a.crt;",
    "ssl_certificate_key a.key;",
    "ssl_certificate a.crt; ssl_certificate_key b.key;",
    "ssl_certificate a.key; ssl_certificate_key a.crt;",
    "ssl_certificate none.crt; ssl_certificate_key a.key;",
    "ssl_certificate a.crt; ssl_certificate_key none.key;",
    "ssl_certificate empty; ssl_certificate_key a.key;",
    "ssl_certificate a.crt; ssl_certificate_key empty;",
    "ssl_certificate half.crt; ssl_certificate_key a.key;",
    "ssl_certificate expired.crt; ssl_certificate_key expired.key;",
    "@PAIR@ ssl_certificate b.crt;",
    "@PAIR@ ssl_password_file none;",
    "@PAIR@ ssl_verify_client on;",
    "@PAIR@ ssl_verify_client optional;",
    "@PAIR@ ssl_verify_client yes;",
    "@PAIR@ ssl_verify_client on; ssl_client_certificate none.crt;",
    "@PAIR@ ssl_verify_client on; ssl_client_certificate empty;",
    "@PAIR@ ssl_verify_client on; ssl_client_certificate a.crt; ssl_crl none.pem;",
    "@PAIR@ ssl_verify_client on; ssl_client_certificate a.crt; ssl_crl a.crt;",
    "ssl_certificate a.crt; ssl_certificate r.crt; ssl_certificate_key r.key; ssl_certificate_key a.key;",
    "ssl_certificate a.crt; ssl_certificate b.crt; ssl_certificate_key b.key; ssl_certificate_key a.key;",
    "@PAIR@ ssl_dhparam none.pem;",
    "@PAIR@ ssl_dhparam empty;",
    "@PAIR@ ssl_dhparam a.crt;",
    "@PAIR@ ssl_protocols TLSv1.4;",
    "@PAIR@ ssl_ciphers nonsense;",
    "@PAIR@ location / { proxy_pass wss://127.0.0.1:1; }",
    "@PAIR@ location / { proxy_pass https://127.0.0.1:1; proxy_ssl_verify on; }",
    "@PAIR@ location / { proxy_pass https://127.0.0.1:1; proxy_ssl_certificate %%DIR%%/a.crt; }",
];

fn place() -> Place {
    let place = Place::new(&["PORT"]);
    let authority = Authority::new("authority");
    for name in ["a", "b"] {
        authority.issue(Key::Ecdsa, name, &[]).write(&place, name);
    }
    authority.issue(Key::Rsa, "r", &[]).write(&place, "r");
    authority.issue_expired("expired").write(&place, "expired");
    place.dir.write("empty", b"");
    let half = place.dir.read("a.crt");
    place.dir.write("half.crt", &half.as_bytes()[..half.len() / 2]);
    place
}

fn config(mistake: &str) -> String {
    // On one line, because nginx names the block's where we name the directive's.
    let server = format!("server {{ listen 127.0.0.1:%%PORT%% ssl; {} }}", mistake.replace("@PAIR@", PAIR));
    format!("user root; error_log stderr; events {{}} http {{ {server} }}\n")
}

/// The first error's words, without time and numbers of processes; nothing when all is well.
fn error(kind: Kind, place: &Place, mistake: &str) -> Option<String> {
    let (accepted, said) = Proxy::test(kind, place, &config(mistake));
    let words = said.lines().find_map(|line| line.split_once("[emerg] "))?.1.to_owned();
    assert!(!accepted, "{mistake}: {said}");
    let words = words
        .split_once("#")
        .and_then(|(_, rest)| rest.split_once(": "))
        .map_or(words.as_str(), |parts| parts.1);
    Some(words.to_owned())
}

mod nginx {
    use super::{Kind, MISTAKES, error, place};

    #[test]
    fn says_the_same_of_mistakes() {
        let place = place();
        for mistake in MISTAKES {
            let theirs = error(Kind::Nginx, &place, mistake);
            assert_eq!(error(Kind::Tidegate, &place, mistake), theirs, "{mistake}");
        }
    }
}

/// `script` gives the program a terminal.
#[test]
fn a_terminal_is_told_what_to_do() {
    let place = place();
    let check = |mistake: &str, expected: &[&str]| {
        place.dir.write("nginx.conf", place.fill(&config(mistake)).as_bytes());
        let command =
            format!("{} -t -p {}/ -c nginx.conf", places::tidegate().display(), place.dir.path().display());
        let mut script = Command::new("script");
        let output = script.args(["-qec", &command, "/dev/null"]).output().expect("script runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        for words in expected {
            assert!(said.contains(words), "{mistake}: no {words} in {said}");
        }
    };
    check("ssl_certificate a.crt;", &["nginx.conf:1", "ssl_certificate a.crt;", "^^^^", "in the same block"]);
    check("ssl_certificate a.crt; ssl_certificate_key b.key;", &["^^^^", "belongs to another certificate"]);
    check("ssl_certificate a.key; ssl_certificate_key a.crt;", &["a key in its place"]);
    check("@PAIR@ ssl_verify_client on;", &["in \"ssl_client_certificate\""]);
    check("@PAIR@ location / { proxy_pass wss://127.0.0.1:1; }", &["also for WebSockets"]);
}
