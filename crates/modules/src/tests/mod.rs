//! Configurations asked as a client would.

use http::testing::{TestServer, get, messages};

use crate::MODULES;

mod beside;
mod language;
mod messages;
mod turns;

/// Each row of `expected` is `target status [location or body]`, or with a host in front `host/target`.
#[track_caller]
pub(crate) fn check(config: &str, expected: &str) {
    let server = TestServer::new(config, MODULES);
    for row in expected.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let mut words = row.splitn(3, ' ');
        let (target, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (host, path) = match target.find('/') {
            Some(0) | None => ("localhost", target),
            Some(at) => target.split_at(at),
        };
        let answer = server.ask(&get(host, path));
        let seen = shown(&answer);
        let wanted = format!("{status} {}", words.next().unwrap_or_default());
        assert_eq!(seen, wanted.trim_end(), "{target}");
    }
}

/// Status, and `Location` or body; of a built-in page the status alone.
fn shown(answer: &http::testing::Answer) -> String {
    let location = answer.text.lines().find_map(|line| line.strip_prefix("Location: "));
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let text = match location {
        Some(location) => location.to_owned(),
        None if answer.status >= 300 && body.starts_with("<html>") => String::new(),
        None => body,
    };
    format!("{} {text}", answer.status).trim_end().to_owned()
}

/// The first message of a configuration, without `nginx: ` and the file's name.
#[track_caller]
pub(crate) fn check_message(config: &str, expected: &str) {
    let messages = messages(config, MODULES);
    let first = messages.lines().next().unwrap_or_default();
    let first = first.strip_prefix("nginx: ").unwrap_or(first);
    let first = first.replace("/test/nginx.conf:", "").replace(" in 1", "");
    assert_eq!(first, expected, "{config}\n{messages}");
}

#[test]
fn servers_and_locations() {
    check(
        "server { return 204; location /a { return 200 a; } }",
        "/a 204
         / 204",
    );
    check(
        "location / { return 200 root; } location /a { return 200 a; } location = /a { return 200 exact; }
         location ^~ /b { return 200 b; } location ~ \\.x$ { return 200 regex; } location ~* \\.Y$ { return 200 y; }",
        "/ 200 root
         /ab 200 a
         /a 200 exact
         /b.x 200 b
         /c.x 200 regex
         /c.y 200 y
         /c.X 200 root",
    );
    check(
        "server { listen 80; server_name a.com *.b.com; return 200 a; }
         server { listen 80; server_name ~^(?<who>.+)\\.dev$; return 200 $who; }
         server { listen 80 default_server; return 200 default; }",
        "a.com/ 200 a
         x.b.com/ 200 a
         me.dev/ 200 me
         other/ 200 default",
    );
}

#[test]
fn rewrite_lines() {
    check(
        "set $a 1; if ($a = 1) { set $b yes; } location / { return 200 $a$b; }
         location /if { if ($arg_x) { return 200 x; } if ($arg_y ~ ^(.)(.)) { return 200 $2$1; } return 200 none; }
         location /to { return 301 http://e.com$request_uri; } location /url { return 302 /x; }
         location /old { rewrite ^/old/(.*)$ /new/$1?k=v last; } location /new { return 200 $uri?$args; }
         location /perm { rewrite ^ /there permanent; }",
        "/ 200 1yes
         /if 200 none
         /if?x=1 200 x
         /if?x=0 200 none
         /if?y=ab 200 ba
         /to?q 301 http://e.com/to?q
         /url 302 /x
         /old/z?a=b 200 /new/z?k=v&a=b
         /perm?a 301 /there?a",
    );
}

#[test]
fn maps_and_logs() {
    let config = "log_format f '$remote_addr $status $m'; access_log /log/a f;
         map $uri $m { default d; /X x; ~^/r(.)$ got$1; }
         server { return 200 $m; }";
    check(config, "/x 200 x\n/r5 200 got5\n/ 200 d");
    let server = TestServer::new(config, MODULES);
    server.ask(&get("h", "/x"));
    assert_eq!(server.world.log("/log/a"), "127.0.0.1 200 x\n");
}

#[test]
fn a_variable_ends_with_its_text_of_a_format() {
    let server = TestServer::new(
        "log_format f '$arg_a' 'b|' c '${arg_a}' d; server { access_log /log/a f; return 200; }",
        MODULES,
    );
    server.ask(&get("h", "/?a=A&ab=B"));
    assert_eq!(server.world.log("/log/a"), "Ab|cAd\n");
}

#[test]
fn two_caches_of_one_path() {
    let paths = "proxy_cache_path /c keys_zone=a:1m; proxy_cache_path /c/ keys_zone=b:1m;";
    let messages = messages(&format!("events {{ }} http {{ {paths} }}"), MODULES);
    assert!(messages.contains("[emerg] the same path name \"/c\" used in line 1 and in"), "{messages}");
}

#[test]
fn messages_help() {
    let messages = |config: &str| {
        let mut world = http::testing::TestWorld::default();
        let loaded = http::testing::load_text(config, MODULES, &mut world);
        conf::render(&loaded.diagnostics, &loaded.sources, conf::Style::Terminal { color: false })
    };
    let all = messages("listn 80; client_max_body_size big; add_header X $hots; return 99999;");
    for part in [
        "unknown directive \"listn\"",
        "did you mean \"listen\"?",
        "\"client_max_body_size\" directive invalid value",
        "unknown \"hots\" variable",
        "did you mean \"$host\"?",
        "invalid return code \"99999\"",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
    let upgrade = messages("proxy_set_header Connection $connection_upgrade;");
    assert!(
        upgrade.contains("map $http_upgrade $connection_upgrade { default upgrade; '' close; }"),
        "{upgrade}"
    );
}

#[test]
fn logs_nobody_wrote() {
    let server = TestServer::new("return 204;", MODULES);
    server.ask(b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: x\"y\r\n\r\n");
    let log = server.world.log("/test/logs/access.log");
    assert!(log.starts_with("127.0.0.1 - - ["), "{log}");
    assert!(log.ends_with("] \"GET / HTTP/1.1\" 204 0 \"-\" \"x\\x22y\"\n"), "{log}");
    let server = TestServer::new("access_log off; server { location / { return 204; } }", MODULES);
    server.ask(&get("h", "/"));
    assert_eq!(server.world.log("/test/logs/access.log"), "");
    check_message(
        "access_log /missing/x;",
        "[emerg] open() \"/missing/x\" failed (2: No such file or directory)",
    );
}

/// A directory that goes away with the test.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(files: &[(&str, &str)]) -> Directory {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-modules-{}-{count}", std::process::id()));
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().expect("it has one")).expect("a directory can be made");
            std::fs::write(file, text).expect("a file can be written");
        }
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_and_their_conditions() {
    let directory = Directory::new(&[("a.html", "hello"), ("d/index.html", "index"), ("e/x.bin", "\x01")]);
    let root = directory.0.display();
    let config = format!(
        "root {root}; types {{ text/html html; a/b BIN; }} default_type d/t; error_log /log/e;
         location /al/ {{ alias {root}/d/; }} location ~ ^/re/(.*) {{ alias {root}/$1; }}
         location = /page {{ return 404; error_page 404 /a.html; }}
         location = /page2 {{ return 404; error_page 404 =200 /a.html; }}
         location = /page3 {{ return 404; error_page 404 /nothing; }}
         location = /page4 {{ return 404; error_page 404 = @named; }}
         location @named {{ return 201 named; }}"
    );
    check(
        &config,
        "/a.html 200 hello
         /d 301 /d/
         /d/ 200 index
         /e/ 403
         /nothing 404
         /a.html/x 404
         /al/index.html 200 index
         /al/ 200 index
         /re/a.html 200 hello
         /page 404 hello
         /page2 200 hello
         /page3 404
         /page4 201 named",
    );
    let server = TestServer::new(&config, MODULES);
    let answer = server.ask(&get("h", "/a.html")).text;
    let field = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).expect(name).to_owned();
    let (modified, etag) = (field("Last-Modified: "), field("ETag: "));
    assert!(answer.starts_with("200\nContent-Type: text/html\nContent-Length: 5\n"), "{answer}");
    let conditional = |fields: &str| {
        server.ask(format!("GET /a.html HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n").as_bytes()).status
    };
    assert_eq!(conditional(&format!("If-Modified-Since: {modified}")), 304);
    assert_eq!(conditional("If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT"), 200);
    assert_eq!(conditional(&format!("If-None-Match: \"x\", {etag}")), 304);
    assert_eq!(conditional("If-None-Match: \"x\""), 200);
    assert_eq!(conditional("If-Match: \"x\""), 412);
    assert_eq!(conditional("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"), 412);
    let head = server.ask(b"HEAD /a.html HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(server.ask(b"POST /a.html HTTP/1.1\r\nHost: h\r\n\r\n").status, 405);
    assert!(server.ask(&get("h", "/e/x.bin")).text.contains("Content-Type: a/b\n"));
    server.ask(&get("h", "/nothing"));
    server.ask(&get("h", "/e/"));
    let log = server.world.log("/log/e");
    let missing =
        format!("open() \"{root}/nothing\" failed (2: No such file or directory), client: 127.0.0.1");
    assert!(log.contains(&missing), "{log}");
    assert!(log.contains(&format!("directory index of \"{root}/e/\" is forbidden, client")), "{log}");
}

#[test]
fn types_nobody_wrote() {
    let kind = |config: &str, target: &str| {
        let text = TestServer::new(config, MODULES).ask(&get("h", target)).text;
        text.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or_default().to_owned()
    };
    assert_eq!(kind("return 200;", "/a.html"), "text/html");
    assert_eq!(kind("return 200;", "/a.JPG"), "image/jpeg");
    assert_eq!(kind("return 200;", "/a.png"), "text/plain");
    assert_eq!(kind("types { } return 200;", "/a.html"), "text/plain");
    assert_eq!(kind("default_type a/b; return 200;", "/.html"), "a/b");
}

#[test]
fn headers_are_added() {
    let config = "add_header A 1; add_header B $uri always;
        location / { return 200 x; } location /e { return 404; }
        location /own { add_header C 3; return 200; } location /exp { expires 1h; return 200; }
        location /epoch { expires epoch; return 204; }";
    let server = TestServer::new(config, MODULES);
    let check = |target: &str, has: &[&str], not: &[&str]| {
        let text = server.ask(&get("h", target)).text;
        for have in has {
            assert!(text.contains(have), "{target}: {text}");
        }
        for have in not {
            assert!(!text.contains(have), "{target}: {text}");
        }
    };
    check("/x", &["A: 1\n", "B: /x\n"], &["C: "]);
    check("/e", &["B: /e\n"], &["A: "]);
    check("/own", &["C: 3\n"], &["A: ", "B: "]);
    check("/exp", &["A: 1", "Expires: ", "Cache-Control: max-age=3600\n"], &[]);
    check("/epoch", &["Expires: Thu, 01 Jan 1970 00:00:01 GMT\n", "Cache-Control: no-cache\n"], &[]);
}

#[test]
fn files_that_are_tried() {
    let directory = Directory::new(&[("a.html", "a"), ("d/index.html", "d"), ("f.txt", "f")]);
    let root = directory.0.display();
    let config = format!(
        "root {root}; location / {{ try_files $uri $uri.html $uri/ =404; }}
         location /app {{ try_files $uri /f.txt; }} location /named {{ try_files /none @n; }}
         location @n {{ return 200 $uri; }} location /al/ {{ alias {root}/d/; try_files $uri =410; }}
         location /q {{ try_files /none /show?x=1; }} location /show {{ return 200 $args; }}"
    );
    check(
        &config,
        "/a 200 a
         /a.html 200 a
         /d 301 /d/
         /d/ 200 d
         /none 404
         /app/x 200 f
         /named 200 /named
         /al/index.html 200 d
         /al/x 410
         /q?y=2 200 x=1",
    );
}

#[test]
fn answers_are_given_in_the_open() {
    let first = |config: &str, expected: &str| check_message(config, expected);
    first(
        "auth_basic closed;",
        "[emerg] the \"auth_basic\" directive is not supported: it comes with a later version",
    );
    first("auth_basic off;", "");
    first("gzip on;", "[warn] \"gzip\" directive is accepted: responses are sent uncompressed");
    first("gzip off; sendfile off;", "");
    first(
        "events { } stream { }",
        "[emerg] the \"stream\" directive is not supported: it comes with a later version",
    );
    first(
        "tcp_nopush on; sendfile on;",
        "[info] accepted and not needed here, sizes and events are chosen by the server itself: sendfile, tcp_nopush",
    );
}

#[test]
fn logs_with_buffers_and_conditions() {
    let server = TestServer::new(
        "log_format f escape=json '{\"u\":\"$uri\",\"a\":\"$arg_a\"}'; access_log /log/a f buffer=4k flush=1h if=$arg_a;
         server { location / { return 204; } location /two { access_log /log/b f; access_log /log/c combined; return 204; } }",
        MODULES,
    );
    let snapshot = server.snapshot();
    for target in ["/x?a=1%22", "/none", "/zero?a=0", "/two?a=2"] {
        server.ask(&get("h", target));
    }
    let file = snapshot.locations.iter().flat_map(|location| &location.access_log).map(|log| &log.file);
    let file = file.clone().find(|file| file.path().ends_with("a")).expect("the server's log").clone();
    let size = || file.duplicate().and_then(|file| file.metadata()).expect("a log in memory").len();
    let now = http::clock::monotonic_ms();
    file.flush_due(now + 1000);
    assert_eq!(size(), 0, "nothing is written before its time");
    file.flush_due(now + 4_000_000);
    assert!(size() > 0);
    assert_eq!(server.world.log("/log/a"), "{\"u\":\"/x\",\"a\":\"1%22\"}\n");
    assert_eq!(server.world.log("/log/b"), "{\"u\":\"/two\",\"a\":\"2\"}\n");
    assert!(server.world.log("/log/c").contains("\"GET /two?a=2 HTTP/1.1\" 204 0"));
}

/// The sockets of a configuration, each with the addresses it answers for.
#[track_caller]
fn check_sockets(servers: &str, expected: &str) {
    let server = TestServer::new(servers, MODULES);
    let sockets: Vec<String> = server
        .snapshot()
        .listeners
        .iter()
        .map(|listener| {
            let inside: Vec<String> = listener.addresses.iter().map(|(addr, _)| addr.to_string()).collect();
            if inside.len() == 1 {
                inside.concat()
            } else {
                format!("{}({})", listener.addr, inside.join(" "))
            }
        })
        .collect();
    assert_eq!(sockets.join(" "), expected, "{servers}");
}

#[test]
fn addresses_to_listen_on() {
    let check = |listen: &str, expected: &str| check_sockets(&format!("server {{ {listen} }}"), expected);
    check("listen 81;", "0.0.0.0:81");
    check("listen *:81;", "0.0.0.0:81");
    check("listen 127.0.0.1;", "127.0.0.1:80");
    check("listen 127.0.0.1:81;", "127.0.0.1:81");
    check("listen [::1];", "[::1]:80");
    check("listen [::]:81;", "[::]:81");
    check("listen localhost:81;", "127.0.0.1:81");
    check("listen 81-83;", "0.0.0.0:81 0.0.0.0:82 0.0.0.0:83");
    check("listen unix:/tmp/s.sock;", "unix:/tmp/s.sock");
    check("listen 81; listen 127.0.0.1:81;", "0.0.0.0:81(127.0.0.1:81 0.0.0.0:81)");
    check("listen 81; listen 127.0.0.1:81 bind;", "0.0.0.0:81 127.0.0.1:81");
    check("listen 81; listen [::]:81; listen 127.0.0.1:82;", "0.0.0.0:81 [::]:81 127.0.0.1:82");
    let own = if rustix::process::geteuid().is_root() { "0.0.0.0:80" } else { "0.0.0.0:8000" };
    check("return 204;", own);
}

#[test]
fn options_of_sockets() {
    let server = TestServer::new(
        "server { listen 81 default_server backlog=7 rcvbuf=8k sndbuf=1m reuseport deferred fastopen=3 so_keepalive=30m::10; }
         server { listen [::]:81 ipv6only=off; }",
        MODULES,
    );
    let listeners = &server.snapshot().listeners;
    let options = &listeners[0].options;
    assert_eq!((options.backlog, options.rcvbuf, options.sndbuf), (7, Some(8192), Some(1 << 20)));
    assert_eq!((options.reuseport, options.deferred, options.fastopen), (true, true, Some(3)));
    assert_eq!(options.keepalive, Some((true, Some(1800), None, Some(10))));
    assert!(!listeners[1].options.ipv6only);
}

#[test]
fn what_blocks_inherit() {
    let server = TestServer::new(
        "keepalive_timeout 10 20; client_max_body_size 5m; types { a/a a; } default_type d/d; error_page 404 /http;
         server { client_max_body_size 0; location / { send_timeout 5; }
             location /own { types { b/b b; } error_page 403 /own; internal; location /own/in { root r; } } }",
        MODULES,
    );
    let core = |text: &str| {
        let location = server.snapshot().locations.iter().find(|location| &*location.text == text.as_bytes());
        location.expect(text).core.clone()
    };
    let root = core("/");
    assert_eq!((root.keepalive_timeout, root.keepalive_header, root.client_max_body_size), (10_000, 20, 0));
    assert_eq!((root.send_timeout, core("/own").send_timeout), (5_000, 60_000));
    assert_eq!(root.error_pages.iter().map(|page| page.code).collect::<Vec<_>>(), [404]);
    let own = core("/own");
    assert_eq!(
        own.error_pages.iter().map(|page| page.code).collect::<Vec<_>>(),
        [403],
        "lists replace whole"
    );
    assert_eq!(own.types.iter().map(|(ext, _)| &**ext).collect::<Vec<_>>(), [b"b"], "lists replace whole");
    let inner = core("/own/in");
    assert!(own.internal && !inner.internal, "internal is the location's own");
    assert_eq!((&*inner.root, &*root.root), (&b"/test/r"[..], &b"/test/html"[..]));
    assert_eq!(inner.error_pages[0].code, 403);
}

#[test]
fn the_process() {
    let server = TestServer::new(
        "worker_processes 3; user www-data staff; pid run/x.pid; daemon off; worker_shutdown_timeout 10s;
         worker_rlimit_nofile 4096; error_log /log/main info; events { worker_connections 99; } http { }",
        MODULES,
    );
    let core = &server.snapshot().core;
    assert_eq!((core.workers, core.connections, core.rlimit_nofile), (3, 99, Some(4096)));
    assert_eq!(core.user, Some(("www-data".to_owned(), Some("staff".to_owned()))));
    assert_eq!((core.pid.as_path(), core.daemon), (std::path::Path::new("/test/run/x.pid"), false));
    assert_eq!(core.shutdown_timeout_ms, Some(10_000));
    core.error_log.write(http::log::Level::Info, format_args!("hello"));
    assert!(server.world.log("/log/main").contains("[info] "));
}
