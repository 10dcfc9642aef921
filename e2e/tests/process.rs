//! The process around the traffic: who it runs as, its pid file, its logs, and how it ends with tunnels open.
#![forbid(unsafe_code)]

use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};
use tidegate_e2e::ask::{is_running, open_descriptors, request, status_of};
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::raw::{DEADLINE, End, Socket};
use tidegate_e2e::ws::{self, Echo};

/// Going away: what a client is told whose proxy leaves.
const GOING_AWAY: u16 = 1001;

fn config(top: &str) -> String {
    let text = whole(
        "log_format short '$status $uri';
         access_log %%DIR%%/access.log short;
         server {
             listen 127.0.0.1:%%PORT%%;
             location /word { return 200 word.; }
             location /slow { proxy_pass http://127.0.0.1:%%V%%; proxy_read_timeout 1h; }
             location /tunnel { proxy_pass http://127.0.0.1:%%U%%; proxy_read_timeout 1h; }
         }",
    );
    format!("{top}\n{}", text.replace("worker_processes 1", "worker_processes 2"))
}

fn start(top: &str) -> (Proxy, Echo) {
    let proxy = Proxy::start(Kind::Tidegate, Place::new(&["PORT", "U", "V"]), &config(top));
    let echo = Echo::on(proxy.place.port("U").listen());
    (proxy, echo)
}

fn tunnel(proxy: &Proxy) -> Socket {
    let mut tunnel = ws::connect(proxy.place.port("PORT").address(), "/tunnel");
    echoes(&mut tunnel);
    tunnel
}

fn echoes(tunnel: &mut Socket) {
    tunnel.forget();
    tunnel.send(&ws::client_frame(b"hello"));
    tunnel.wait_for(&ws::server_frame(b"hello"));
    tunnel.forget();
}

fn has_file(proxy: &Proxy, name: &str) -> bool {
    proxy.place.dir.path().join(name).exists()
}

/// Started by root, the process that reads from the network is nobody, and can open nothing of root's; the other keeps
/// what it needs for log files that only root can open.
#[test]
fn root_does_not_serve() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else has a choice.
        return;
    }
    let place = Place::new(&["PORT", "U", "V"]);
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o700)).expect("our own directory");
    let text = config("").replace("user root;\n", "");
    let mut proxy = Proxy::start(Kind::Tidegate, place, &text);
    let _echo = Echo::on(proxy.place.port("U").listen());
    let nobody = [id_of("passwd", "nobody"), id_of("group", "nogroup")];
    let serving = proxy.serving_pid();
    proxy.wait_until("given up root", |_| status_of(serving, "Uid").starts_with(&nobody[0]));
    assert_eq!(status_of(serving, "Uid"), [nobody[0].as_str(); 4].join("\t"));
    assert_eq!(status_of(serving, "Gid"), [nobody[1].as_str(); 4].join("\t"));
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(status_of(serving, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_of(proxy.pid(), "Uid"), "0\t0\t0\t0");
    echoes(&mut tunnel(&proxy));
    proxy.wait_until("a log only root can open", |proxy| proxy.access_lines("101 /tunnel") == 1);
    // A reload and a rotation are root's work again.
    for name in ["access.log", "error.log"] {
        let from = proxy.place.dir.path().join(name);
        fs::rename(&from, from.with_extension("old")).expect("our own files");
    }
    proxy.signal(Signal::USR1);
    proxy.wait_until("new logs", |proxy| has_file(proxy, "access.log") && has_file(proxy, "error.log"));
    proxy.signal(Signal::HUP);
    proxy.wait_until("reloaded", |proxy| proxy.lines_with("generation 1 exited with code 0") == 1);
    assert!(proxy.get("/word").ends_with("word."));
    proxy.wait_until("a line in the new log", |proxy| proxy.access_lines("200 /word") == 1);
    assert!(proxy.stop(), "{}", proxy.logs());
}

/// The number of a user or a group, from its file.
fn id_of(file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/etc/{file}")).expect("every system has it");
    let line = text.lines().find(|line| line.split(':').next() == Some(name));
    line.and_then(|line| line.split(':').nth(2)).unwrap_or_else(|| panic!("no {name}")).to_owned()
}

#[test]
fn the_pid_file() {
    let (mut proxy, _echo) = start("");
    let pid = |pid: Pid| format!("{}\n", pid.as_raw_nonzero());
    proxy.wait_until("a pid file", |proxy| proxy.place.dir.read("proxy.pid") == pid(proxy.pid()));
    proxy.signal(Signal::HUP);
    proxy.wait_until("reloaded", |proxy| proxy.lines_with("generation 1 exited with code 0") == 1);
    assert_eq!(proxy.place.dir.read("proxy.pid"), pid(proxy.pid()));
    proxy.rewrite(&config("").replace("proxy.pid", "moved.pid"));
    proxy.signal(Signal::HUP);
    proxy.wait_until("the pid file where it is wanted now", |proxy| {
        proxy.place.dir.read("moved.pid") == pid(proxy.pid()) && !has_file(proxy, "proxy.pid")
    });
    assert!(proxy.stop(), "{}", proxy.logs());
    assert!(!has_file(&proxy, "moved.pid"));
}

/// A tunnel that was opened before the rotation writes its line to the new file, also when a reload came between.
#[test]
fn logs_rotate_under_tunnels() {
    let (mut proxy, _echo) = start("");
    let mut before = tunnel(&proxy);
    for round in 1..=3 {
        proxy.signal(Signal::HUP);
        let gone = format!("generation {round} exited with code 0");
        proxy.wait_until("reloaded", |proxy| proxy.lines_with(&gone) == 1);
        for name in ["access.log", "error.log"] {
            let from = proxy.place.dir.path().join(name);
            fs::rename(&from, from.with_extension(format!("{round}"))).expect("our own files");
        }
        proxy.signal(Signal::USR1);
        proxy.wait_until("new logs", |proxy| has_file(proxy, "access.log") && has_file(proxy, "error.log"));
        // Until the serving process has its own, a line may still go to the file that was moved.
        let moved = format!("access.{round}");
        proxy.wait_until("a line in the new log", |proxy| {
            assert!(proxy.get("/word").ends_with("word."));
            proxy.access_lines("200 /word") > 0
        });
        echoes(&mut before);
        drop(std::mem::replace(&mut before, tunnel(&proxy)));
        proxy.wait_until("the tunnel's line", |proxy| proxy.access_lines("101 /tunnel") == 1);
        let left = proxy.place.dir.read(&moved).matches("101 /tunnel").count();
        assert_eq!(left, usize::from(round > 1), "only what was there when it was moved");
    }
    let old = proxy.place.dir.read("error.1");
    assert!(old.contains("(SIGUSR1)") && old.contains("reopening logs"), "{old}");
}

/// A rotation while a reload is under way, which has opened its logs already: they too are opened anew.
#[test]
fn logs_rotate_within_a_reload() {
    let (mut proxy, _echo) = start("");
    let serving = proxy.serving_pid();
    kill_process(serving, Signal::STOP).expect("it runs");
    proxy.signal(Signal::HUP);
    proxy.wait_until("reconfiguring", |proxy| proxy.lines_with("(SIGHUP)") == 1);
    proxy.signal(Signal::WINCH);
    proxy.wait_until("done with it", |proxy| proxy.lines_with("(SIGWINCH)") == 1);
    for name in ["access.log", "error.log"] {
        let from = proxy.place.dir.path().join(name);
        fs::rename(&from, from.with_extension("old")).expect("our own files");
    }
    proxy.signal(Signal::USR1);
    proxy.wait_until("new logs", |proxy| has_file(proxy, "access.log") && has_file(proxy, "error.log"));
    kill_process(serving, Signal::CONT).expect("it stands still");
    // Which of the two has it is chance.
    let gone = "generation 1 exited with code 0";
    proxy.wait_until("reloaded", |proxy| {
        (proxy.error_log() + &proxy.place.dir.read("error.old")).contains(gone)
    });
    proxy.signal(Signal::WINCH);
    proxy.wait_until("a line in the new log", |proxy| proxy.lines_with("(SIGWINCH)") == 1);
    // And so does the next process that serves.
    kill_process(serving, Signal::KILL).expect("it runs");
    proxy.wait_until("another process", |proxy| proxy.serving_pid() != serving);
    assert!(proxy.get("/word").ends_with("word."));
    proxy.wait_until("its line in the new log", |proxy| proxy.access_lines("200 /word") == 1);
}

/// Connections have used up all descriptors: reloads and rotations are done all the same, or refused when they need too
/// many; whatever is open lives on.
#[test]
fn orders_without_descriptors() {
    const LIMIT: u32 = 100;
    let place = Place::new(&["PORT", "U", "V"]);
    let mut proxy = Proxy::start_limited(Kind::Tidegate, place, &config(""), LIMIT);
    let _echo = Echo::on(proxy.place.port("U").listen());
    let serving = proxy.serving_pid();
    let mut open = tunnel(&proxy);
    let mut client = proxy.client();
    let mut is_answered = |word: &str| {
        client.send(request("/word", "keep-alive").as_bytes());
        client.wait_for(b"\r\n\r\n");
        client.wait_for(b".");
        String::from_utf8_lossy(client.received()).ends_with(word)
    };
    assert!(is_answered("word."));
    let descriptors = open_descriptors(serving);
    let crowded = |proxy: &mut Proxy| -> Vec<Socket> {
        let before = proxy.lines_with("accept4() failed (24: ");
        let crowd = (0..LIMIT).map(|_| proxy.client()).collect();
        proxy.wait_until("out of descriptors", |proxy| proxy.lines_with("accept4() failed (24: ") > before);
        crowd
    };
    let crowd = crowded(&mut proxy);

    proxy.rewrite(&config("").replace("word.;", "other.;"));
    proxy.signal(Signal::HUP);
    proxy.wait_until("the other word", |_| is_answered("other."));
    fs::rename(proxy.place.dir.path().join("access.log"), proxy.place.dir.path().join("old"))
        .expect("our own file");
    proxy.signal(Signal::USR1);
    proxy.wait_until("a line in the new log", |proxy| {
        is_answered("other.");
        proxy.access_lines("200 /word") > 0
    });
    let logs: String = (0..30).map(|number| format!("access_log %%DIR%%/{number}.log;")).collect();
    let many = config("").replace("server {", &format!("server {{ {logs}"));
    proxy.rewrite(&many);
    proxy.signal(Signal::HUP);
    let refused = "[emerg] ";
    proxy.wait_until("refused", |proxy| {
        proxy.lines_with(refused) == 2 && proxy.lines_with("recvmsg() failed (24: Too many open files)") == 1
    });
    assert!(is_answered("other."), "the old one serves on");
    echoes(&mut open);

    // Room that was made for a second try is taken while that does not come.
    kill_process(serving, Signal::STOP).expect("it runs");
    proxy.signal(Signal::USR1);
    proxy.signal(Signal::WINCH);
    proxy.wait_until("orders given", |proxy| proxy.lines_with("(SIGWINCH) received") == 1);
    proxy.signal(Signal::STOP);
    let out = proxy.lines_with("accept4() failed (24: ");
    kill_process(serving, Signal::CONT).expect("it runs");
    proxy.wait_until("out of descriptors again", |proxy| proxy.lines_with("accept4() failed (24: ") > out);
    proxy.signal(Signal::CONT);
    proxy.wait_until("no rotation", |proxy| proxy.lines_with("logs are not reopened") == 1);

    drop(crowd);
    assert!(proxy.get("/word").ends_with("other."), "room again");
    // There is a next time.
    proxy.wait_until("as many held back as before", |_| open_descriptors(serving) >= descriptors);
    let crowd = crowded(&mut proxy);
    proxy.rewrite(&config("").replace("word.;", "third.;"));
    proxy.signal(Signal::HUP);
    proxy.wait_until("the third word", |_| is_answered("third."));
    drop(crowd);
    proxy.rewrite(&many);
    proxy.signal(Signal::HUP);
    proxy.wait_until("what was refused", |_| is_answered("word."));
    echoes(&mut open);
    assert_eq!(proxy.serving_pid(), serving);
}

/// QUIT: nobody new, requests in flight are finished, idle connections close, tunnels get a goodbye and go in order.
#[test]
fn quit_drains() {
    let (mut proxy, _echo) = start("worker_shutdown_timeout 4s;");
    let slow = proxy.place.port("V").listen();
    let mut idle = proxy.client();
    idle.send(request("/word", "keep-alive").as_bytes());
    idle.wait_for(b"word.");
    let mut busy = proxy.client();
    busy.send(request("/slow", "keep-alive").as_bytes());
    let mut backend = Socket::over(slow.accept().expect("the proxy connects").0).expect("a stream");
    backend.wait_for(b"\r\n\r\n");
    let mut tunnels: Vec<Socket> = (0..5).map(|_| tunnel(&proxy)).collect();
    proxy.signal(Signal::QUIT);
    assert_eq!(idle.wait_end(DEADLINE), End::Fin);
    proxy.wait_until("refusing", |proxy| proxy.connect("PORT").is_err());
    // A polite client answers the Close frame and both directions end.
    for tunnel in &mut tunnels {
        let close = ws::server_close(GOING_AWAY);
        tunnel.wait_for(&close);
        assert_eq!(tunnel.received(), close);
        tunnel.send(&[0x88, 0x82, 0, 0, 0, 0, close[2], close[3]]);
        tunnel.fin();
        assert_eq!(tunnel.wait_end(DEADLINE), End::Fin);
    }
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    busy.wait_for(b"HTTP/1.1 200 ");
    busy.wait_for(b"Connection: close\r\n\r\nlate");
    let at = Instant::now();
    assert!(proxy.left(), "{}", proxy.logs());
    assert!(at.elapsed() < Duration::from_secs(5), "nothing was left to wait for");
    assert!(!has_file(&proxy, "proxy.pid"));
    assert_eq!(proxy.access_lines("101 /tunnel"), 5);
    assert_eq!(proxy.lines_with("gracefully shutting down"), 1);
}

/// Who does not leave is left: after `worker_shutdown_timeout` the process ends with requests and tunnels open.
#[test]
fn quit_is_bounded() {
    let (mut proxy, _echo) = start("worker_shutdown_timeout 1s;");
    let slow = proxy.place.port("V").listen();
    let mut busy = proxy.client();
    busy.send(request("/slow", "keep-alive").as_bytes());
    let _backend = slow.accept().expect("the proxy connects");
    let mut stubborn = tunnel(&proxy);
    let at = Instant::now();
    proxy.signal(Signal::QUIT);
    stubborn.wait_for(&ws::server_close(GOING_AWAY));
    assert_ne!(stubborn.wait_end(DEADLINE), End::Open);
    assert_ne!(busy.wait_end(DEADLINE), End::Open);
    assert!(proxy.left(), "{}", proxy.logs());
    let took = at.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(proxy.access_lines("101 /tunnel"), 1);
}

/// TERM: now, but a WebSocket client hears why.
#[test]
fn term_is_now() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut proxy, _echo) = start("");
        let slow = proxy.place.port("V").listen();
        let mut busy = proxy.client();
        busy.send(request("/slow", "keep-alive").as_bytes());
        let _backend = slow.accept().expect("the proxy connects");
        let mut tunnels: Vec<Socket> = (0..5).map(|_| tunnel(&proxy)).collect();
        let at = Instant::now();
        proxy.signal(signal);
        assert!(proxy.left(), "{}", proxy.logs());
        assert!(at.elapsed() < Duration::from_secs(5));
        for tunnel in &mut tunnels {
            assert_ne!(tunnel.wait_end(DEADLINE), End::Open);
            assert_eq!(tunnel.received(), ws::server_close(GOING_AWAY));
        }
        assert_ne!(busy.wait_end(DEADLINE), End::Open);
        assert_eq!(proxy.access_lines("101 /tunnel"), 5, "{}", proxy.logs());
        assert!(!has_file(&proxy, "proxy.pid"));
    }
}

/// Right behind the 101: who has it hears why it is over, who has not gets nothing.
#[test]
fn term_right_behind_the_101() {
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let mut opened = 0;
    for round in 0..8 {
        let (mut proxy, _echo) = start("");
        let listener = proxy.place.port("V").listen();
        let mut ends: Vec<(Socket, Socket)> = (0..20)
            .map(|_| {
                let mut client = proxy.client();
                client.send(ws::handshake("/slow").as_bytes());
                let mut backend =
                    Socket::over(listener.accept().expect("the proxy connects").0).expect("a stream");
                backend.wait_for(b"\r\n\r\n");
                (client, backend)
            })
            .collect();
        // The signal comes after some of the answers.
        for (number, (_, backend)) in ends.iter_mut().enumerate() {
            if number == round * 3 {
                proxy.signal(Signal::TERM);
            }
            backend.send(ANSWER.as_bytes());
        }
        if round * 3 >= ends.len() {
            proxy.signal(Signal::TERM);
        }
        assert!(proxy.left(), "{}", proxy.logs());
        for (client, _) in &mut ends {
            assert_ne!(client.wait_end(DEADLINE), End::Open);
            let got = client.received();
            if !got.is_empty() {
                opened += 1;
                assert!(got.starts_with(b"HTTP/1.1 101 "), "{}", got.escape_ascii());
                assert!(got.ends_with(&ws::server_close(GOING_AWAY)), "{}", got.escape_ascii());
            }
        }
    }
    assert!(opened > 0, "none had its 101");
}

/// The monitor is killed: nobody could command the serving process any more, so it says goodbye and ends, and the next
/// start finds everything free.
#[test]
fn the_monitor_is_killed() {
    let (mut proxy, _echo) = start("");
    let mut tunnels: Vec<Socket> = (0..5).map(|_| tunnel(&proxy)).collect();
    let serving = proxy.serving_pid();
    proxy.signal(Signal::KILL);
    for tunnel in &mut tunnels {
        assert_ne!(tunnel.wait_end(DEADLINE), End::Open);
        assert_eq!(tunnel.received(), ws::server_close(GOING_AWAY));
    }
    assert!(!proxy.left(), "it was killed");
    proxy.wait_for("the serving process gone", |_| !is_running(serving));
    assert_eq!(proxy.access_lines("101 /tunnel"), 5, "{}", proxy.logs());
    proxy.has_one_line(&["[alert]", "the monitor is gone"]);
    // Its pid file is still there, and does not matter.
    proxy.start_again();
    assert!(proxy.get("/word").ends_with("word."));
    let pid = format!("{}\n", proxy.pid().as_raw_nonzero());
    proxy.wait_until("a pid file", |proxy| proxy.place.dir.read("proxy.pid") == pid);
    assert!(proxy.stop(), "{}", proxy.logs());
}

/// The same with a serving process that hangs, because of a log that takes nothing.
#[test]
fn the_monitor_is_killed_while_the_serving_process_hangs() {
    let place = Place::new(&["PORT", "U", "V"]);
    let pipe = place.dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("every system has it").success());
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let reader = fs::File::options().read(true).write(true).custom_flags(nonblocking).open(&pipe);
    let mut reader = reader.expect("our own pipe");
    let mut proxy = Proxy::start(Kind::Tidegate, place, &config("error_log %%DIR%%/pipe;"));
    let serving = proxy.serving_pid();
    while reader.write(&[b'x'; 4096]).is_ok() {}
    while reader.write(b"x").is_ok() {}
    proxy.signal(Signal::KILL);
    assert!(!proxy.left(), "it was killed");
    proxy.wait_for("the serving process gone", |_| !is_running(serving));
}

/// A serving process that hangs can't keep the monitor from ending.
#[test]
fn term_ends_a_serving_process_that_hangs() {
    let (mut proxy, _echo) = start("");
    kill_process(proxy.serving_pid(), Signal::STOP).expect("it runs");
    proxy.signal(Signal::HUP);
    proxy.signal(Signal::USR1);
    proxy.wait_until("told of both", |proxy| {
        proxy.lines_with("(SIGUSR1)") == 1 && proxy.lines_with("(SIGHUP)") == 1
    });
    proxy.signal(Signal::TERM);
    assert!(proxy.left(), "{}", proxy.logs());
}

/// The line to the monitor, as somebody has it who has taken over the serving process.
/// Nobody has it where taking descriptors of other processes is not allowed, as in many containers.
fn line_of(serving: Pid) -> Option<File> {
    let process = pidfd_open(serving, PidfdFlags::empty()).expect("it runs");
    let entries = fs::read_dir(format!("/proc/{}/fd", serving.as_raw_nonzero())).expect("it runs");
    let is_socket = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
    };
    let sockets = entries.flatten().filter(is_socket);
    let mut numbers: Vec<i32> =
        sockets.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // It is born with it: of the sockets that are no network's, the first.
    numbers.sort_unstable();
    for number in numbers {
        let taken = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Err(error @ (Errno::PERM | Errno::NOSYS)) => {
                println!("not tested: pidfd_getfd: {error}");
                return None;
            }
            taken => taken.expect("our own child's child"),
        };
        if sockopt::socket_domain(&taken) == Ok(AddressFamily::UNIX) {
            return Some(taken.into());
        }
    }
    panic!("a serving process without a line to its monitor");
}

/// A report as it is sent: of one number, beside its kind.
fn report(kind: u64, number: u64) -> Vec<u8> {
    let body = [kind.to_ne_bytes(), number.to_ne_bytes()].concat();
    let magic = u32::from_be_bytes(*b"TGfd").to_ne_bytes();
    [&magic[..], &0u32.to_ne_bytes(), &(body.len() as u64).to_ne_bytes(), &body].concat()
}

/// Nothing that a serving process says, or leaves unsaid, makes the monitor wait; who doesn't speak properly is replaced.
#[test]
fn the_monitor_waits_for_no_report() {
    let mut huge = report(1, 1);
    huge[8..16].copy_from_slice(&(1u64 << 29).to_ne_bytes());
    for (said, expected) in [
        (&report(1, 1)[..7], "stopped in the middle of a report, killing it"),
        (&report(1, 1)[..20], "stopped in the middle of a report, killing it"),
        (&[0; 64], "sent what is no report (not a message of ours), killing it"),
        (&huge, "sent what is no report (not a message of ours), killing it"),
        (&report(77, 1), "sent what is no report"),
    ] {
        let (mut proxy, _echo) = start("");
        let serving = proxy.serving_pid();
        let Some(mut line) = line_of(serving) else { return };
        line.write_all(said).expect("a line");
        drop(line);
        proxy.signal(Signal::USR1);
        proxy.wait_until("told of a signal", |proxy| proxy.lines_with("(SIGUSR1)") == 1);
        proxy.wait_until("a complaint", |proxy| proxy.lines_with(expected) == 1);
        proxy.wait_until("its end", |proxy| proxy.lines_with("exited on signal 9") == 1);
        proxy.wait_until("another one", |proxy| proxy.lines_with("start worker process ") == 2);
        assert_ne!(proxy.serving_pid(), serving);
        proxy.wait_until("an answer", |proxy| proxy.get("/word").ends_with("word."));
        assert!(proxy.stop());
    }
}

/// A serving process that never stops talking.
#[test]
fn signals_are_heard_through_many_reports() {
    let (mut proxy, _echo) = start("");
    let Some(mut line) = line_of(proxy.serving_pid()) else { return };
    let talker = std::thread::spawn(move || {
        let many = report(1, 1).repeat(100);
        while line.write_all(&many).is_ok() {}
    });
    proxy.signal(Signal::USR1);
    proxy.wait_until("told of a signal", |proxy| proxy.lines_with("(SIGUSR1)") == 1);
    proxy.signal(Signal::TERM);
    assert!(proxy.left(), "{}", proxy.logs());
    talker.join().expect("it can't write any more");
}
