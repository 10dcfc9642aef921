//! Configurations asked as a client would.

use http::testing::{TestServer, get, messages};

use crate::MODULES;

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
        let location = answer.text.lines().find_map(|line| line.strip_prefix("Location: "));
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let shown = match location {
            Some(location) => location.to_owned(),
            None if answer.status >= 300 && body.starts_with("<html>") => String::new(),
            None => body,
        };
        let seen = format!("{} {shown}", answer.status);
        let wanted = format!("{status} {}", words.next().unwrap_or_default());
        assert_eq!(seen.trim_end(), wanted.trim_end(), "{target}");
    }
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
fn messages_are_nginx_s() {
    check_message("listn 80;", "[emerg] unknown directive \"listn\"");
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
