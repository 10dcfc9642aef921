//! Reload: everything new or everything as it was.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
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
    ("reload_outlives_a_crash_while_it_loads", reload_outlives_a_crash_while_it_loads),
    ("reload_that_never_loads_keeps_nobody_from_leaving", reload_that_never_loads_keeps_nobody_from_leaving),
    ("reload_asked_for_during_one_that_dies", reload_asked_for_during_one_that_dies),
    ("reload_helps_where_nothing_can_be_served", reload_helps_where_nothing_can_be_served),
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

/// A slow load (a pipe that nobody has written into yet) stands in the way of nothing: neither of another process, nor of
/// signals; and what it comes to is served.
fn reload_outlives_a_crash_while_it_loads() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; access_log access.log; return one;"));
    let loading = Slow::reload(&site, "slow.conf");
    let first = site.serving_pids()[0];
    sys::process::kill(first, Signal::KILL).unwrap();
    site.wait_for_log(&format!("worker process {first} exited on signal 9"), 1);
    wait_for_answer(&address, "one");
    assert_eq!(site.serving_pids().len(), 2);
    fs::rename(site.dir.join("access.log"), site.dir.join("access.log.1")).unwrap();
    site.signal(Signal::USR1);
    wait_until(|| "the new log".into(), || site.dir.join("access.log").exists());
    // Not forgotten, and not begun before the other is over.
    site.signal(Signal::HUP);
    site.wait_for_log("(SIGHUP) received from", 2);
    assert_eq!(site.log().matches(": reconfiguring").count(), 1);
    site.write_config(&format!("listen {address}; return three;"));
    loading.finish(&format!("listen {address}; return two;"));
    wait_for_answer(&address, "three");
    assert_eq!(site.log().matches(": reconfiguring").count(), 2);
    assert_eq!(site.serving_pids().len(), 2);
}

fn reload_that_never_loads_keeps_nobody_from_leaving() {
    for signal in [Signal::TERM, Signal::QUIT, Signal::INT] {
        let address = free_address();
        let mut site = Site::started(&format!("listen {address}; return one;"));
        let held = hold(&address);
        let _loading = Slow::reload(&site, "slow.conf");
        site.signal(signal);
        // The load that is abandoned does not keep the sockets: nobody would answer there.
        wait_for_refusal(&address);
        drop(held);
        assert_eq!(site.ended().code(), Some(0));
        assert!(!site.dir.join("nginx.pid").exists());
    }
}

fn reload_asked_for_during_one_that_dies() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; return one;"));
    let serving = site.serving_pids()[0];
    sys::process::kill(serving, Signal::STOP).unwrap();
    site.write_config(&format!("listen {address}; access_log two.log; return two;"));
    site.signal(Signal::HUP);
    // It has been read.
    wait_until(|| "the new log".into(), || site.dir.join("two.log").exists());
    site.write_config(&format!("listen {address}; return three;"));
    site.signal(Signal::HUP);
    site.wait_for_log("(SIGHUP) received from", 2);
    sys::process::kill(serving, Signal::KILL).unwrap();
    wait_for_answer(&address, "three");
}

/// What is served can't be any more, and is refused again and again. The next configuration waits behind it, or does not.
fn reload_helps_where_nothing_can_be_served() {
    let address = free_address();
    let site = Site::new(&format!("listen {address}; working_directory gone; return one;"));
    fs::create_dir(site.dir.join("gone")).unwrap();
    let mut site = site;
    site.start();
    fs::remove_dir(site.dir.join("gone")).unwrap();
    sys::process::kill(site.serving_pids()[0], Signal::KILL).unwrap();
    site.wait_for_log("chdir(", 2);
    let loading = Slow::reload(&site, "slow.conf");
    let started = site.serving_pids().len();
    wait_until(|| "another try".into(), || site.serving_pids().len() > started);
    loading.finish(&format!("listen {address}; return two;"));
    wait_for_answer(&address, "two");
}

/// A reload whose configuration is a pipe.
struct Slow(PathBuf);

impl Slow {
    /// Asks for it; it loads for as long as nothing is written.
    fn reload(site: &Site, name: &str) -> Self {
        let pipe = site.dir.join(name);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        site.write_config(&format!("include {name};"));
        let before = site.log().matches(": reconfiguring").count();
        site.signal(Signal::HUP);
        site.wait_for_log(": reconfiguring", before + 1);
        Self(pipe)
    }

    fn finish(self, config: &str) {
        let open =
            || fs::File::options().write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&self.0);
        let mut file = None;
        wait_until(
            || "a reader".into(),
            || {
                file = open().ok();
                file.is_some()
            },
        );
        file.unwrap().write_all(config.as_bytes()).unwrap();
    }
}
