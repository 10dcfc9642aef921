//! Reload: everything new or everything as it was.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use sys::signals::Signal;

use crate::site::{Scenario, Site, ask, free_address, hold, wait_for_answer, wait_for_refusal, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("reload_swaps_and_keeps_the_process", reload_swaps_and_keeps_the_process),
    ("reload_changes_listeners", reload_changes_listeners),
    ("reload_that_fails_changes_nothing", reload_that_fails_changes_nothing),
    ("reload_that_kills_is_given_up", reload_that_kills_is_given_up),
    ("reloads_in_a_row", reloads_in_a_row),
    ("reload_moves_logs_and_pid", reload_moves_logs_and_pid),
    ("reload_says_what_it_cannot_change", reload_says_what_it_cannot_change),
];

fn reload_swaps_and_keeps_the_process() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; return one;"));
    let mut held = hold(&address);
    site.write_config(&format!("listen {address}; return two;"));
    site.signal(Signal::HUP);
    wait_for_answer(&address, "two");
    assert!(site.log().contains(", reconfiguring") && site.log().contains(": reconfiguring"));
    assert_eq!(site.serving_pids().len(), 1);
    assert!(!site.log().contains("exited with code"), "the old generation still has a connection");
    held.write_all(b"bye\n").unwrap();
    assert_eq!(held.read(&mut [0]).unwrap(), 0);
    let serving = site.serving_pids()[0];
    site.wait_for_log(&format!("[notice] {serving}#{serving}: generation 1 exited with code 0"), 1);
}

fn reload_changes_listeners() {
    let (kept, gone, new) = (free_address(), free_address(), free_address());
    let site = Site::started(&format!("listen {kept}; listen {gone}; return one;"));
    site.write_config(&format!("listen {new}; listen {kept} backlog=100; return two;"));
    site.signal(Signal::HUP);
    wait_for_answer(&new, "two");
    wait_for_answer(&kept, "two");
    wait_for_refusal(&gone);
    // And back: an address can return.
    site.write_config(&format!("listen {kept}; listen {gone}; return three;"));
    site.signal(Signal::HUP);
    wait_for_answer(&gone, "three");
    wait_for_answer(&kept, "three");
    wait_for_refusal(&new);
    // A serving process that starts later has the sockets of today.
    let serving = site.serving_pids()[0];
    sys::process::kill(serving, Signal::KILL).unwrap();
    wait_for_answer(&gone, "three");
    wait_for_answer(&kept, "three");
}

fn reload_that_fails_changes_nothing() {
    let address = free_address();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let site = Site::started(&format!("listen {address}; return one;"));
    let mut number = 0;
    let mut fails = |config: &str, expected: &str| {
        number += 1;
        site.write_config(config);
        site.signal(Signal::HUP);
        site.wait_for_log(": reconfiguring", number);
        site.wait_for_log(expected, 1);
        assert_eq!(ask(&address, "x").unwrap(), "one");
    };
    fails("nonsense;", "unknown directive \"nonsense\" in ");
    fails("error_log error.log bad;", "invalid log level \"bad\"");
    fails(&format!("listen {address}; refuse; return two;"), "[emerg]");
    fails("listen 192.0.2.1:80;", "bind() to 192.0.2.1:80 failed");
    fails(&format!("listen {taken};"), "still could not bind()");
    // A good one is still possible.
    site.write_config(&format!("listen {address}; return two;"));
    site.signal(Signal::HUP);
    wait_for_answer(&address, "two");
    assert_eq!(site.serving_pids().len(), 1);
}

fn reload_that_kills_is_given_up() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; return one;"));
    site.write_config(&format!("listen {address}; abort; return two;"));
    site.signal(Signal::HUP);
    site.wait_for_log("exited on signal 6", 1);
    site.wait_for_log("the new configuration was given up", 1);
    wait_for_answer(&address, "one");
    assert_eq!(site.serving_pids().len(), 2);
}

fn reloads_in_a_row() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; return 0;"));
    let pid = site.serving_pids()[0];
    let descriptors = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let counts = || (descriptors(pid), descriptors(site.pid()));
    site.write_config(&format!("listen {address}; return 1;"));
    site.signal(Signal::HUP);
    wait_for_answer(&address, "1");
    site.wait_for_log("generation 1 exited with code 0", 1);
    let before = counts();
    for number in 2..30 {
        site.write_config(&format!("listen {address}; return {number};"));
        // Two at once are one or two reloads, never none.
        site.signal(Signal::HUP);
        site.signal(Signal::HUP);
        wait_for_answer(&address, &number.to_string());
    }
    // The monitor may have let go of the first configuration's only after they were counted: then there are fewer now.
    let no_more = || counts().0 <= before.0 && counts().1 <= before.1;
    wait_until(|| format!("descriptors {before:?}, not {:?}", counts()), no_more);
    assert_eq!(site.serving_pids(), [pid]);
}

fn reload_moves_logs_and_pid() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; access_log one.log; return one;"));
    ask(&address, "x").unwrap();
    let main = format!(
        "daemon off; pid other.pid; error_log other.log info; listen {address}; access_log two.log; return two;"
    );
    site.write("nginx.conf", &main);
    site.signal(Signal::HUP);
    wait_for_answer(&address, "two");
    wait_until(
        || "the pid file to move".into(),
        || site.read("other.pid").trim() == site.pid().to_string() && !site.dir.join("nginx.pid").exists(),
    );
    assert!(!site.read("one.log").contains("two"));
    assert!(site.read("two.log").starts_with("two\n"));
    wait_until(
        || "a line in the other log".into(),
        || site.read("other.log").contains("generation 1 exited"),
    );
}

fn reload_says_what_it_cannot_change() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; return one;"));
    site.write_config(&format!("listen {address} reuseport; worker_processes 2; return two;"));
    site.signal(Signal::HUP);
    wait_for_answer(&address, "two");
    site.wait_for_log("[warn]", 1);
    let line = "\"worker_processes\" changed, it takes effect when the process is started anew";
    assert!(site.log().contains(line), "{}", site.log());
    // The address became one of several sockets, all of which are accepted on.
    for _ in 0..20 {
        assert_eq!(ask(&address, "x").unwrap(), "two");
    }
}
