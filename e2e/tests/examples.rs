//! Every configuration in `examples/` is accepted, by nginx too where it is nginx's; those with TLS are tried.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tidegate_e2e::certificates::{Authority, Kind as Key};
use tidegate_e2e::places;
use tidegate_e2e::programs::{Dialogue, Running, python, script};
use tidegate_e2e::proxy::{Kind, Place, Proxy};

fn examples() -> Vec<PathBuf> {
    let all = fs::read_dir(places::workspace().join("examples")).expect("examples/").flatten();
    let all = all.map(|file| file.path());
    all.filter(|path| path.extension().is_some_and(|ext| ext == "conf")).collect()
}

/// An example with its files in a directory of ours instead of `/etc`, and pairs of certificate and key where it names some.
fn moved(config: &str, place: &Place) -> String {
    let etc = place.dir.path().join("etc");
    let text = config.replace(" /etc/", &format!(" {}/", etc.display()));
    let authority = Authority::new("authority");
    let backend = authority.issue(Key::Ecdsa, "backend.internal", &[]);
    backend.write(place, "backend");
    place.dir.write("authority.crt", authority.own().certificate.as_bytes());
    for line in text.lines().map(str::trim) {
        let Some((directive, path)) = line.trim_end_matches(';').split_once(char::is_whitespace) else {
            continue;
        };
        let Some(path) = path.trim().strip_prefix(&format!("{}/", place.dir.path().display())) else {
            continue;
        };
        match directive {
            "ssl_certificate" | "proxy_ssl_certificate" => {
                let pair = authority.issue(Key::Ecdsa, "app.example.com", &["localhost"]);
                place.dir.write(path, pair.certificate.as_bytes());
                let key = path.replace("fullchain", "privkey").replace(".crt", ".key");
                place.dir.write(&key, pair.key.as_bytes());
            }
            "ssl_client_certificate" | "proxy_ssl_trusted_certificate" => {
                place.dir.write(path, authority.own().certificate.as_bytes());
            }
            _ => {}
        }
    }
    text
}

fn accepts(binary: PathBuf, config: &str) -> Result<(), String> {
    let place = Place::new(&[]);
    let config = place.dir.write("nginx.conf", moved(config, &place).as_bytes());
    let mut command = Command::new(binary);
    command.arg("-p").arg(place.dir.path()).arg("-e").arg(place.dir.path().join("error.log"));
    let output = command.arg("-t").arg("-c").arg(&config).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let accepted = output.status.success() && said.contains("test is successful");
    if accepted { Ok(()) } else { Err(said) }
}

#[test]
fn every_example_is_accepted() {
    assert!(!examples().is_empty(), "no example was found");
    for example in examples() {
        let config = fs::read_to_string(&example).expect("text");
        accepts(places::tidegate(), &config).unwrap_or_else(|said| panic!("{}: {said}", example.display()));
    }
}

mod nginx {
    /// But for the directives that are ours.
    #[test]
    fn accepts_the_examples_that_are_its_own() {
        let nginx = tidegate_e2e::places::nginx().expect("`cargo xtask install` makes the tools");
        for example in super::examples() {
            let config = std::fs::read_to_string(&example).expect("text");
            if !config.lines().any(|line| line.trim().starts_with("websocket")) {
                super::accepts(nginx.clone(), &config)
                    .unwrap_or_else(|said| panic!("{}: {said}", example.display()));
            }
        }
    }
}

/// Runs an example, its ports and files being ours.
fn run(example: &str) -> Proxy {
    let path = places::workspace().join("examples").join(example);
    let place = Place::new(&["PORT", "TLS", "U"]);
    let text = moved(&fs::read_to_string(path).expect("an example"), &place);
    let logs = format!("{}/", place.dir.path().display());
    let text = [
        ("/var/log/nginx/", logs.as_str()),
        ("worker_processes auto;", "worker_processes 1;"),
        ("listen 80;", "listen 127.0.0.1:%%PORT%%;"),
        ("listen 443 ssl", "listen 127.0.0.1:%%TLS%% ssl"),
        ("listen 8443 ssl", "listen 127.0.0.1:%%TLS%% ssl"),
        ("127.0.0.1:3000", "127.0.0.1:%%U%%"),
        ("127.0.0.1:3443", "127.0.0.1:%%U%%"),
    ]
    .iter()
    .fold(text, |text, (from, to)| text.replace(from, to));
    let around = "daemon off;\nuser root;\npid %%DIR%%/proxy.pid;\nerror_log %%DIR%%/error.log info;\n";
    // The port that tells when it is up.
    let more = if example == "wss-mutual.conf" { "server { listen 127.0.0.1:%%PORT%%; }\n}" } else { "}" };
    let end = text.trim_end().strip_suffix('}').expect("http ends the file");
    let mut proxy = Proxy::start(Kind::Tidegate, place, &format!("{around}{end}{more}\n"));
    proxy.wait_listening("TLS");
    proxy
}

fn file(proxy: &Proxy, name: &str) -> String {
    proxy.place.dir.path().join(name).display().to_string()
}

#[test]
fn python_talks_through_the_wss_example() {
    let mut proxy = run("wss.conf");
    let _server = Running::start(python().arg(script("echo_server.py")), &proxy);
    let mut client = Dialogue::start(python().arg(script("tls_client.py")));
    let port = proxy.place.port("TLS").number();
    for (path, resume) in [("/ws", false), ("/", true)] {
        let url = format!("wss://app.example.com{path}");
        let question =
            json!({ "url": url, "port": port, "ca": file(&proxy, "authority.crt"), "resume": resume });
        assert_eq!(client.ask(&question), json!({ "status": 101, "name": "app.example.com" }));
    }
    proxy.wait_until("the line of a session taken up", |proxy| {
        proxy.place.dir.read("app.log").contains("TLS_AES_256_GCM_SHA384 reused=r")
    });
    let mut plain = proxy.client();
    plain.send(b"GET /page?a=b HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n");
    let answer = plain.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
    assert!(answer.contains("\r\nLocation: https://app.example.com/page?a=b\r\n"), "{answer}");
}

#[test]
fn python_shows_its_certificate_to_the_mutual_example() {
    let mut proxy = run("wss-mutual.conf");
    let mut server = python();
    server.arg(script("echo_server.py")).args([file(&proxy, "backend.crt"), file(&proxy, "backend.key")]);
    let _server = Running::start(&mut server, &proxy);
    let mut client = Dialogue::start(python().arg(script("tls_client.py")));
    let mut question = json!({
        "url": "wss://app.example.com/",
        "port": proxy.place.port("TLS").number(),
        "ca": file(&proxy, "authority.crt"),
    });
    assert_eq!(client.ask(&question), json!({ "status": 400 }));
    // Any pair of that authority will do.
    question["certificate"] = file(&proxy, "backend.crt").into();
    question["key"] = file(&proxy, "backend.key").into();
    assert_eq!(client.ask(&question), json!({ "status": 101, "name": "app.example.com" }));
    proxy.wait_until("its line", |proxy| {
        proxy.place.dir.read("devices.log").contains("SUCCESS \"CN=backend.internal\"")
    });
}
