//! A thousand tunnels through fifty reloads: nothing is lost, nobody is closed, one process serves all along, and its
//! memory does not grow.
#![forbid(unsafe_code)]

use std::fs;

use rustix::process::Signal;
use tidegate_e2e::ask::{more_descriptors, pss_bytes};
use tidegate_e2e::proxy::{Kind, Place, Proxy, roomy};
use tidegate_e2e::raw::{DEADLINE, Socket};
use tidegate_e2e::threads::Rounds;
use tidegate_e2e::ws::{Echo, Tunnels};

const TUNNELS: usize = 1000;
const RELOADS: u32 = 50;
/// Growth from the tenth to the last reload that is noise: allocator pages that two runs place differently.
const SLACK_BYTES: u64 = 256 * 1024;

/// What both configurations have: the tunnels and a word that tells which one answers.
const COMMON: &str = "
    location /tunnel {
        proxy_pass http://back;
        proxy_read_timeout 1h;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection \"upgrade\";";

fn first() -> String {
    roomy(&format!(
        "upstream back {{ server 127.0.0.1:%%U%%; }}
         server {{ listen 127.0.0.1:%%PORT%%; {COMMON} }} location /which {{ return 200 first; }} }}"
    ))
}

/// With a peer, a map, a header, a server and a listener more.
fn second() -> String {
    roomy(&format!(
        "upstream back {{ server 127.0.0.1:%%U%%; server 127.0.0.1:%%V%%; }}
         map $arg_word $answer {{ default second; other third; }}
         server {{ listen 127.0.0.1:%%PORT%%; {COMMON} proxy_set_header X-Second $answer; }}
                   location /which {{ return 200 $answer; }} }}
         server {{ listen 127.0.0.1:%%PORT2%%; server_name two; return 200 two; }}"
    ))
}

#[test]
fn a_thousand_tunnels_through_fifty_reloads() {
    more_descriptors(3000);
    let place = Place::new(&["PORT", "PORT2", "U", "V"]);
    let mut proxy = Proxy::start(Kind::Tidegate, place, &first());
    let _backends = [Echo::on(proxy.place.port("U").listen()), Echo::on(proxy.place.port("V").listen())];
    let mut tunnels = Tunnels::new();
    tunnels.open(TUNNELS / 2, proxy.place.port("PORT").address(), "/tunnel");
    reload(&mut proxy, 1);
    tunnels.open(TUNNELS / 2, proxy.place.port("PORT").address(), "/tunnel");

    let serving = proxy.serving_pid();
    let mut at_tenth = 0;
    let rounds = Rounds::beside(&mut tunnels, |rounds| {
        for number in 2..=RELOADS {
            let before = rounds.count();
            reload(&mut proxy, number);
            assert_eq!(proxy.serving_pid(), serving, "reload {number} changed the serving process");
            proxy.wait_until("echoing after a reload", |_| rounds.moved_since(before));
            if number == 10 {
                at_tenth = pss_bytes(serving);
            }
        }
    });

    let at_last = pss_bytes(serving);
    tunnels.round();
    println!(
        "{TUNNELS} tunnels, {RELOADS} reloads, {rounds} rounds; PSS {at_tenth} bytes after ten, {at_last} at the end"
    );
    let most = at_tenth + at_tenth / 50 + SLACK_BYTES;
    assert!(at_last <= most, "memory grew from {at_tenth} to {at_last} bytes in forty reloads");
    old_generations_are_gone(&mut proxy);
}

/// HUP with the other configuration, and waits until it answers: even numbers are the first one.
fn reload(proxy: &mut Proxy, number: u32) {
    let second_now = number % 2 == 1;
    proxy.rewrite(&if second_now { second() } else { first() });
    let pid = fs::read_to_string(proxy.place.dir.path().join("proxy.pid")).expect("the pid file");
    assert_eq!(
        pid.trim(),
        proxy.pid().as_raw_nonzero().to_string(),
        "the pid file has the process that was started"
    );
    proxy.signal(Signal::HUP);
    let expected = if second_now { "second" } else { "first" };
    proxy.wait_until(&format!("answering as {expected}"), |proxy| {
        answer(proxy, "PORT").as_deref() == Some(expected)
    });
    proxy.wait_until("the second listener to come or go", |proxy| {
        answer(proxy, "PORT2").is_some_and(|answer| answer == "two") == second_now
    });
}

/// What a port answers to one request; `None` when nobody listens or nobody answers.
fn answer(proxy: &Proxy, port: &str) -> Option<String> {
    let mut client = Socket::connect(proxy.place.port(port).address()).ok()?;
    client.send(b"GET /which HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.wait_end(DEADLINE);
    let text = String::from_utf8_lossy(client.received()).into_owned();
    Some(text.split_once("\r\n\r\n")?.1.to_owned())
}

/// All but the newest said goodbye: nothing of a tunnel holds an old snapshot.
fn old_generations_are_gone(proxy: &mut Proxy) {
    proxy.wait_until("the last old generation to go", |proxy| {
        proxy.error_log().lines().filter(|line| gone(line)).count() >= RELOADS as usize
    });
    let count = proxy.error_log().lines().filter(|line| gone(line)).count();
    assert_eq!(count, RELOADS as usize, "one line for each generation that went\n{}", proxy.logs());
}

fn gone(line: &str) -> bool {
    line.contains("[notice]") && line.contains("generation ") && line.ends_with(" exited with code 0")
}
