//! From start to end: pid file, signals, crashes, privileges, the background.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use sys::signals::Signal;

use crate::site::{
    Scenario, Site, ask, free_address, free_v6_address, hold, wait_for_answer, wait_for_refusal, wait_until,
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("serves_and_stops", serves_and_stops),
    ("quit_lets_connections_finish", quit_lets_connections_finish),
    ("quit_is_bounded", quit_is_bounded),
    ("stop_does_not_wait", stop_does_not_wait),
    ("a_dead_serving_process_is_replaced", a_dead_serving_process_is_replaced),
    ("a_signalled_serving_process_is_replaced", a_signalled_serving_process_is_replaced),
    ("no_serving_process_outlives_the_monitor", no_serving_process_outlives_the_monitor),
    ("logs_are_reopened", logs_are_reopened),
    ("root_stays_with_the_monitor", root_stays_with_the_monitor),
    ("daemon", daemon),
    ("a_daemon_that_fails_says_so", a_daemon_that_fails_says_so),
    ("without_a_monitor", without_a_monitor),
    ("sockets_of_all_kinds", sockets_of_all_kinds),
    ("a_start_that_fails", a_start_that_fails),
    ("other_signals_are_only_logged", other_signals_are_only_logged),
];

fn serves_and_stops() {
    let address = free_address();
    let mut site = Site::started(&format!("listen {address}; return hello;"));
    assert_eq!(ask(&address, "x").unwrap(), "hello");
    site.signal(Signal::TERM);
    assert_eq!(site.ended().code(), Some(0));
    assert!(!site.dir.join("nginx.pid").exists());
    let serving = site.serving_pids()[0];
    let own = std::process::id();
    for line in [
        "[notice] ".to_owned(),
        "tidegate/".to_owned(),
        "start worker processes".to_owned(),
        format!("signal 15 (SIGTERM) received from {own}, exiting"),
        format!("{serving}#{serving}: exiting"),
        format!("signal 17 (SIGCHLD) received from {serving}"),
        format!("worker process {serving} exited with code 0"),
        ": exit\n".to_owned(),
    ] {
        assert!(site.log().contains(&line), "{line} is missing in {}", site.log());
    }
    assert_eq!((site.read("stdout"), site.read("stderr")), (String::new(), String::new()));
    assert!(!site.log().contains("[alert]"));
}

fn quit_lets_connections_finish() {
    let address = free_address();
    let mut site = Site::started(&format!("listen {address};"));
    let held = hold(&address);
    site.signal(Signal::QUIT);
    wait_for_refusal(&address);
    site.wait_for_log("gracefully shutting down", 1);
    assert!(site.is_running());
    drop(held);
    assert_eq!(site.ended().code(), Some(0));
    assert!(site.log().contains("received from") && site.log().contains(", shutting down"));
}

fn quit_is_bounded() {
    let address = free_address();
    let mut site = Site::started(&format!("listen {address}; worker_shutdown_timeout 50;"));
    let _held = hold(&address);
    site.signal(Signal::QUIT);
    assert_eq!(site.ended().code(), Some(0));
}

fn stop_does_not_wait() {
    let address = free_address();
    let mut site = Site::started(&format!("listen {address};"));
    let _held = hold(&address);
    site.signal(Signal::QUIT);
    site.wait_for_log("gracefully shutting down", 1);
    site.signal(Signal::INT);
    assert_eq!(site.ended().code(), Some(0));
}

fn a_dead_serving_process_is_replaced() {
    let address = free_address();
    let site = Site::new("include part.conf; worker_processes 2;");
    site.write("part.conf", &format!("listen {address} reuseport; return hello;"));
    let mut site = site;
    site.start();
    // What was read at the start is not read again: the monitor kept it.
    fs::remove_file(site.dir.join("part.conf")).unwrap();
    for round in 1..=2 {
        assert!(ask(&address, "abort").is_err_and(|_| true) || round > 0);
        // Never refused: the sockets stayed open.
        let answer = ask(&address, "x");
        assert!(!answer.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused));
        wait_for_answer(&address, "hello");
        site.wait_for_log("exited on signal 6", round);
    }
    let pids = site.serving_pids();
    assert_eq!(pids.len(), 3, "{pids:?}");
    assert!(site.log().contains(&format!(
        "[alert] {0}#{0}: worker process {1} exited on signal 6",
        site.pid(),
        pids[0]
    )));
    assert!(site.dir.join("nginx.pid").exists());
}

fn a_signalled_serving_process_is_replaced() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; return hello;"));
    let first = site.serving_pids()[0];
    sys::process::kill(first, Signal::INT).unwrap();
    sys::process::kill(first, Signal::HUP).unwrap();
    site.wait_for_log("(SIGHUP) received from", 1);
    assert_eq!(ask(&address, "x").unwrap(), "hello");
    sys::process::kill(first, Signal::TERM).unwrap();
    site.wait_for_log(&format!("worker process {first} exited with code 0"), 1);
    wait_for_answer(&address, "hello");
    assert_eq!(site.serving_pids().len(), 2);
}

fn no_serving_process_outlives_the_monitor() {
    let address = free_address();
    let mut site = Site::started(&format!("listen {address};"));
    site.signal(Signal::KILL);
    site.ended();
    wait_for_refusal(&address);
}

fn logs_are_reopened() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; access_log access.log; return line;"));
    ask(&address, "x").unwrap();
    for name in ["access.log", "error.log"] {
        fs::rename(site.dir.join(name), site.dir.join(format!("{name}.1"))).unwrap();
    }
    site.signal(Signal::USR1);
    let is_new = |name: &str| site.dir.join(name).exists();
    wait_until(|| "the new logs".into(), || is_new("access.log") && is_new("error.log"));
    wait_until(
        || "a line in the new log".into(),
        || {
            ask(&address, "x").unwrap();
            site.read("access.log").contains("line\n")
        },
    );
    for line in ["(SIGUSR1) received from", "reopening logs"] {
        assert!(site.read("error.log.1").contains(line));
    }
    site.signal(Signal::USR2);
    site.wait_for_log("(SIGUSR2) received from", 1);
}

fn root_stays_with_the_monitor() {
    if !sys::credentials::is_root() {
        return;
    }
    let address = free_address();
    let site = Site::new(&format!("listen {address}; access_log access.log; temp_path temp; return line;"));
    // Only root can get at anything here.
    fs::set_permissions(&site.dir, fs::Permissions::from_mode(0o700)).unwrap();
    let mut site = site;
    site.start();
    ask(&address, "x").unwrap();
    assert_eq!(site.read("access.log"), "line\n");
    let nobody = sys::credentials::user("nobody").unwrap().unwrap();
    let status = |pid: u32, key: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
    };
    let serving = site.serving_pids()[0];
    assert_eq!(status(serving, "Uid:"), vec![nobody.uid.to_string(); 4].join("\t"));
    assert_eq!(status(serving, "Gid:"), vec![nobody.gid.to_string(); 4].join("\t"));
    assert_eq!(status(serving, "CapEff:"), "0000000000000000");
    assert_eq!(status(site.pid(), "Uid:"), "0\t0\t0\t0");
    assert_eq!(fs::metadata(site.dir.join("temp")).unwrap().uid(), nobody.uid);
    // And a log that only root can open is reopened for it.
    fs::rename(site.dir.join("access.log"), site.dir.join("access.log.1")).unwrap();
    site.signal(Signal::USR1);
    wait_until(
        || "the new log".into(),
        || ask(&address, "x").is_ok() && site.read("access.log").contains("line"),
    );
}

fn daemon() {
    let address = free_address();
    let mut site = Site::new(&format!("daemon on; listen {address}; return hello;"));
    let output = site.output(&[]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
    // It answers before the command returns.
    let pid: u32 = site.read("nginx.pid").trim().parse().unwrap();
    site.watch(pid);
    assert_eq!(ask(&address, "x").unwrap(), "hello");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(session, pid.to_string());
    for number in [0, 1] {
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap().to_str(), Some("/dev/null"));
    }
    assert_eq!(
        fs::metadata(site.dir.join("error.log")).unwrap().mode() & 0o022,
        0,
        "nobody else may write it"
    );
    let stderr = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap();
    assert_eq!(stderr, site.dir.join("error.log"));

    site.write_config(&format!("daemon on; listen {address}; return again;"));
    assert!(site.output(&["-s", "reload"]).status.success());
    wait_for_answer(&address, "again");
    assert!(site.output(&["-s", "reopen"]).status.success());
    site.wait_for_log("(SIGUSR1) received from", 1);
    assert!(site.output(&["-s", "quit"]).status.success());
    wait_until(|| format!("the end of {pid}"), || !site.dir.join("nginx.pid").exists());
    wait_for_refusal(&address);
}

fn a_daemon_that_fails_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let site = Site::new(&format!("daemon on; listen {address};"));
    let output = site.output(&[]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = format!("nginx: [emerg] bind() to {address} failed (98: Address already in use)");
    assert_eq!(stderr.matches(&line).count(), 5, "{stderr}");
    assert!(stderr.ends_with("nginx: [emerg] still could not bind()\n"), "{stderr}");
    assert!(!site.dir.join("nginx.pid").exists());

    site.write_config("daemon on; nonsense;");
    let output = site.output(&[]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected =
        format!("nginx: [emerg] unknown directive \"nonsense\" in {}:3\n", site.path("nginx.conf"));
    assert_eq!(stderr, expected);
}

fn without_a_monitor() {
    let address = free_address();
    let mut site =
        Site::started(&format!("master_process off; listen {address}; access_log access.log; return one;"));
    assert_eq!(ask(&address, "x").unwrap(), "one");
    assert_eq!(site.serving_pids(), [site.pid()]);
    let held = hold(&address);
    site.write_config(&format!("master_process off; listen {address}; access_log access.log; return two;"));
    site.signal(Signal::HUP);
    wait_for_answer(&address, "two");
    drop(held);
    site.wait_for_log("generation 1 exited with code 0", 1);
    fs::rename(site.dir.join("access.log"), site.dir.join("old.log")).unwrap();
    site.signal(Signal::USR1);
    wait_until(
        || "the new log".into(),
        || ask(&address, "x").is_ok() && site.read("access.log").contains("two"),
    );
    site.signal(Signal::QUIT);
    assert_eq!(site.ended().code(), Some(0));
    assert!(!site.dir.join("nginx.pid").exists());
}

fn sockets_of_all_kinds() {
    let site = Site::new("");
    let (path, address) = (site.path("app.sock"), free_address());
    let v6 = free_v6_address();
    let listens = v6.as_ref().map_or(String::new(), |v6| format!("listen {v6} backlog=7;"));
    let mut site = site;
    site.write_config(&format!(
        "worker_processes 3; listen unix:{path}; listen {address} reuseport; {listens} return hello;"
    ));
    site.start();
    for _ in 0..20 {
        assert_eq!(ask(&address, "x").unwrap(), "hello");
    }
    if let Some(v6) = v6 {
        assert_eq!(ask(&v6, "x").unwrap(), "hello");
    }
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    site.signal(Signal::QUIT);
    assert_eq!(site.ended().code(), Some(0));
    assert!(!fs::exists(&path).unwrap());
}

fn a_start_that_fails() {
    let address = free_address();
    let fails = |config: &str, expected: &str| {
        let site = Site::new(config);
        let output = site.output(&[]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{config}: {stderr}");
        assert!(stderr.contains(expected), "{config}: {stderr}");
        assert!(
            site.log().contains(expected.trim_start_matches("nginx: [emerg] ")),
            "{config}: {}",
            site.log()
        );
        assert!(!site.dir.join("nginx.pid").exists());
    };
    fails("nonsense;", "nginx: [emerg] unknown directive \"nonsense\" in ");
    fails(
        "listen 192.0.2.1:80;",
        "nginx: [emerg] bind() to 192.0.2.1:80 failed (99: Cannot assign requested address)",
    );
    fails(&format!("listen {address}; refuse;"), "nginx: [emerg] refused as asked");
    fails(&format!("listen {address}; abort;"), "exited on signal 6");
    fails(
        "access_log /nonexistent/a.log;",
        "open() \"/nonexistent/a.log\" failed (2: No such file or directory)",
    );
    fails("temp_path a/b;", "mkdir() \"");
    fails(
        &format!("listen {address}; pid /nonexistent/pid;"),
        "open() \"/nonexistent/pid\" failed (2: No such",
    );
    if sys::credentials::is_root() {
        fails("user no-such-user;", "nginx: [emerg] getpwnam(\"no-such-user\") failed");
    }
    wait_for_refusal(&address);
}

fn other_signals_are_only_logged() {
    let address = free_address();
    let site = Site::started(&format!("listen {address}; return hello;"));
    site.signal(Signal::USR2);
    site.signal(Signal::WINCH);
    site.wait_for_log("(SIGUSR2) received from", 1);
    site.wait_for_log("(SIGWINCH) received from", 1);
    assert_eq!(ask(&address, "x").unwrap(), "hello");
}
