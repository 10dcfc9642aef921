//! What becomes of an exchange: framing, failures, the next peer, connections kept.

use super::backend::SILENT;
use super::{Backend, OK, check, get, serve};

const PASS: &str = "server { location / { proxy_pass http://127.0.0.1:PORT; } }";

#[track_caller]
fn logs(config: &str, answer: &'static str, expected: &str, line: &str) {
    let seen = check(config, answer, &get("/"), expected);
    assert!(seen.error_log.contains(line), "no line \"{line}\" in\n{}", seen.error_log);
}

#[test]
fn bodies_end_as_their_framing_says() {
    let row = |answer: &'static str, expected: &str| {
        check(PASS, answer, &get("/"), expected);
    };
    row(OK, "200 ok");
    row(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3;x\r\ncde\r\n0\r\nT: 1\r\n\r\n",
        "200 abcde",
    );
    row("HTTP/1.1 200 OK\r\n\r\nuntil the end", "200 until the end");
    row("HTTP/1.0 200 OK\r\n\r\nuntil the end", "200 until the end");
    row("HTTP/1.1 204 No Content\r\n\r\n", "204");
    row("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304");
    row("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200");
    row(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "200 ok",
    );
    row("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay", "200 ok");
}

#[test]
fn a_cut_response_is_seen_as_cut() {
    let early = "upstream prematurely closed connection while reading upstream";
    logs(PASS, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "200 ok abort", early);
    logs(PASS, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", "200 ok abort", early);
    logs(
        PASS,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "200  abort",
        "upstream sent invalid chunked response",
    );
}

#[test]
fn heads_that_never_come_or_make_no_sense() {
    let from = "while reading response header from upstream, client: 127.0.0.1, server: , request: \"GET / HTTP/1.1\", \
                upstream: \"http://127.0.0.1:";
    logs(PASS, "", "502", &format!("upstream prematurely closed connection {from}"));
    logs(PASS, "HTTP/1.1 200 OK\r\n", "502", "upstream prematurely closed connection");
    logs(PASS, "nonsense\r\n\r\n", "502", "upstream sent no valid HTTP/1.0 header");
    logs(
        PASS,
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "502",
        "upstream sent invalid \"Content-Length\" header",
    );
    logs(
        "server { location / { proxy_pass http://127.0.0.1:PORT; proxy_buffer_size 64; proxy_buffers 4 64; } }",
        "HTTP/1.1 200 OK\r\nX-Long: 0123456789012345678901234567890123456789\r\n\r\n",
        "502",
        "upstream sent too big header",
    );
    logs(
        "server { location / { proxy_pass http://127.0.0.1:DEAD; } }",
        "",
        "502",
        "connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1",
    );
}

#[test]
fn timeouts_are_504() {
    logs(
        "server { location / { proxy_pass http://127.0.0.1:PORT; proxy_read_timeout 50ms; } }",
        SILENT,
        "504",
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
    );
    logs(
        "server { location / { proxy_pass http://127.0.0.1:PORT; proxy_read_timeout 50ms; } }",
        "STAYHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        "200 ok abort",
        "upstream timed out (110: Connection timed out) while reading upstream",
    );
}

/// Statuses the client gets, `upstream_status` of the log, and how many requests the peers saw.
#[track_caller]
fn next(lines: &str, answers: [&'static str; 2], method: &str, expected: &str) {
    assert_eq!(tried(lines, answers, method), expected, "{lines}");
}

/// What a client got, and from whom.
fn tried(lines: &str, answers: [&'static str; 2], method: &str) -> String {
    let backends = answers.map(|answer| Backend::new(vec![vec![answer]]));
    let config = format!(
        "upstream u {{ server 127.0.0.1:PORT; server 127.0.0.1:{}; }} log_format s \"$upstream_status\"; \
         server {{ access_log /log/access.log s; location / {{ proxy_pass http://u; {lines} }} }}",
        backends[1].port
    );
    let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let seen = serve(&config, &backends[0], &[&request]);
    let body = String::from_utf8_lossy(&seen.answers[0].body).into_owned();
    let body = if body.starts_with("<html>") { "" } else { &body };
    println!("{}", seen.error_log);
    format!("{} {body} | {}", seen.answers[0].status, seen.access_log.trim())
}

#[test]
fn a_peer_whose_name_nobody_knows_is_down() {
    let ask = |servers: &str| {
        let backend = Backend::new(vec![vec![OK]]);
        let config = format!(
            "resolver 127.0.0.1; upstream u {{ zone z 64k; {servers} }} server {{ location / {{ proxy_pass http://u; }} }}"
        );
        serve(&config, &backend, &["GET / HTTP/1.1\r\nHost: a\r\n\r\n"]).answers[0].status
    };
    assert_eq!(ask("server nosuch.invalid resolve; server 127.0.0.1:PORT;"), 200);
    assert_eq!(ask("server nosuch.invalid resolve; server nosuch.invalid service=http resolve;"), 502);
}

#[test]
fn the_next_peer() {
    const UNAVAILABLE: &str = "HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy";
    const MISSING: &str = "HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\ngone";
    next("", ["", OK], "GET", "200 ok | 502, 200");
    next("", ["", ""], "GET", "502  | 502, 502");
    next("", [UNAVAILABLE, OK], "GET", "503 busy | 503");
    next("proxy_next_upstream http_503;", [UNAVAILABLE, OK], "GET", "200 ok | 503, 200");
    // The last peer's answer is passed on.
    next("proxy_next_upstream http_503;", [UNAVAILABLE, UNAVAILABLE], "GET", "503 busy | 503, 503");
    next("proxy_next_upstream http_404;", [MISSING, OK], "GET", "200 ok | 404, 200");
    next("proxy_next_upstream off;", ["", OK], "GET", "502  | 502");
    next("proxy_next_upstream_tries 1;", ["", OK], "GET", "502  | 502");
    // What was sent may have had its effect.
    next("", ["", OK], "POST", "502  | 502");
    next("proxy_next_upstream error non_idempotent;", ["", OK], "POST", "200 ok | 502, 200");
    // On a busy machine the second peer, too, may take longer than the shortest.
    let timeouts = ["50ms", "500ms", "5s"].map(|timeout| format!("proxy_read_timeout {timeout};"));
    let mut tries = timeouts.iter().map(|timeout| tried(timeout, [SILENT, OK], "GET"));
    assert!(tries.any(|got| got == "200 ok | 504, 200"));
}

#[test]
fn connections_are_kept_and_lent() {
    const KEPT: &str = "upstream u { server 127.0.0.1:PORT; } server { location / { proxy_pass http://u; } \
                        location /b { proxy_pass http://u; } location /i { proxy_pass http://127.0.0.1:PORT; } }";
    let row = |connections: Vec<Vec<&'static str>>, targets: &[&str], expected: &[u16]| {
        let backend = Backend::new(connections);
        let requests: Vec<String> = targets.iter().map(|target| get(target)).collect();
        let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
        let seen = serve(KEPT, &backend, &requests);
        let statuses: Vec<u16> = seen.answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, expected, "{targets:?}\n{}", seen.error_log);
    };
    const MORE: &str = "STAYHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const EXTRA: &str = "STAYHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay";
    const CLOSE: &str = "STAYHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    // One connection serves both: there is no second.
    row(vec![vec![OK, OK]], &["/", "/"], &[200, 200]);
    // By default a location lends to nobody.
    row(vec![vec![MORE], vec![OK]], &["/", "/b"], &[200, 200]);
    row(vec![vec![MORE], vec![OK]], &["/i", "/i"], &[200, 200]);
    // Bytes nobody asked for, or a close announced: not kept.
    row(vec![vec![EXTRA], vec![OK]], &["/", "/"], &[200, 200]);
    row(vec![vec![CLOSE], vec![OK]], &["/", "/"], &[200, 200]);
    // A kept connection that died before it answered is no failure of the peer.
    row(vec![vec![OK, ""], vec![OK]], &["/", "/"], &[200, 200]);
}

#[test]
fn a_held_body_goes_with_the_request() {
    let backend = Backend::new(vec![vec![""], vec![OK]]);
    let config = "server { location / { proxy_pass http://127.0.0.1:PORT; error_page 502 = @other; } \
                  location @other { proxy_pass http://127.0.0.1:PORT; } }";
    let request = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let seen = serve(config, &backend, &[request]);
    assert_eq!(seen.answers[0].status, 200, "{}", seen.error_log);
    assert_eq!(seen.received.len(), 2);
    assert_eq!(seen.received[0], seen.received[1]);
}

#[test]
fn responses_are_translated() {
    let head = |location: &str, fields: &'static str, expected: &str| {
        let answer: &'static str =
            Box::leak(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n").into_boxed_str());
        let backend = Backend::new(vec![vec![answer]]);
        let config = format!("server {{ location /l/ {{ {location} }} }}");
        let seen = serve(&config, &backend, &[&get("/l/x")]);
        let text = seen.answers[0].text.replace("200\nContent-Length: 0\n", "");
        assert_eq!(text.trim_end().replace('\n', "|"), expected, "{fields}");
    };
    let pass = "proxy_pass http://127.0.0.1:PORT;";
    head(pass, "Server: s\r\nDate: d\r\nX-Pad: p\r\nX-Accel-Expires: 1\r\nX-A: a\r\n", "X-A: a");
    head(pass, "Keep-Alive: 1\r\nConnection: X-A\r\nX-A: a\r\n", "X-A: a");
    head(&format!("{pass} proxy_hide_header x-a;"), "X-A: a\r\nX-B: b\r\n", "X-B: b");
    head(&format!("{pass} proxy_pass_header X-Pad;"), "X-Pad: a\r\n", "X-Pad: a");
    head(pass, "Location: http://elsewhere/x\r\n", "Location: http://elsewhere/x");
    head(pass, "Location: /here\r\n", "Location: /here");
    let rule = |rule: &str, location: &'static str, expected: &str| {
        head(
            &format!("{pass} proxy_redirect {rule};"),
            Box::leak(format!("Location: {location}\r\n").into_boxed_str()),
            &format!("Location: {expected}"),
        );
    };
    rule("off", "http://a/x", "http://a/x");
    rule("http://a/ /b/", "http://a/x", "/b/x");
    rule("http://a/ http://$host/b/", "http://a/x", "http://example.com/b/x");
    rule("~^http://([^/]+)/(.*)$ http://z/$1/$2", "http://a/x", "http://z/a/x");
    rule("~*^HTTP://a/ /b/", "http://a/x", "/b/");
    rule("http://q/ /b/", "http://a/x", "http://a/x");
}

#[test]
fn internal_redirects_of_upstreams() {
    let config = "server { location / { proxy_pass http://127.0.0.1:PORT; } location /in/ { internal; return 200 inside:$uri; } \
                  location @n { return 200 named; } }";
    check(
        config,
        "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /in/a%20b?c\r\nContent-Length: 1\r\n\r\nx",
        &get("/"),
        "200 inside:/in/a b",
    );
    check(
        config,
        "HTTP/1.1 200 OK\r\nX-Accel-Redirect: @n\r\nContent-Length: 0\r\n\r\n",
        &get("/"),
        "200 named",
    );
    check(
        config,
        "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /in/../..\r\nContent-Length: 0\r\n\r\n",
        &get("/"),
        "404",
    );
    let ignored =
        "server { location / { proxy_pass http://127.0.0.1:PORT; proxy_ignore_headers X-Accel-Redirect; } }";
    check(
        ignored,
        "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /in/\r\nContent-Length: 2\r\n\r\nok",
        &get("/"),
        "200 ok",
    );
    let intercepting = "server { error_page 500 /e; location / { proxy_pass http://127.0.0.1:PORT; proxy_intercept_errors on; } \
                        location = /e { return 200 page; } }";
    check(intercepting, "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\noh", &get("/"), "500 page close");
    check(intercepting, "HTTP/1.1 404 Oh\r\nContent-Length: 2\r\n\r\noh", &get("/"), "404 oh");
}

#[test]
fn what_the_configuration_may_not_say() {
    let uri = "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named location, \
               or inside \"if\" statement, or inside \"limit_except\" block";
    let row = |config: &str, expected: &str| {
        let messages = http::testing::messages(config, crate::MODULES);
        let first = messages.lines().next().unwrap_or_default();
        // What is found when blocks are merged stands at the end of http, in the second line.
        let line = if expected.contains("buffers") { 2 } else { 1 };
        assert_eq!(first, format!("nginx: {expected} in /test/nginx.conf:{line}"), "{config}");
    };
    row("location ~ x { proxy_pass http://127.0.0.1/u; }", &format!("[emerg] {uri}"));
    row("location @x { proxy_pass http://127.0.0.1/u; }", &format!("[emerg] {uri}"));
    row("location / { if ($host) { proxy_pass http://127.0.0.1/; } }", &format!("[emerg] {uri}"));
    row("location / { proxy_pass 127.0.0.1; }", "[emerg] invalid URL prefix");
    row("location / { proxy_pass http://127.0.0.1:0; }", "[emerg] invalid port in upstream \"127.0.0.1:0\"");
    row(
        "location / { proxy_pass http://no.such.host; }",
        "[emerg] host not found in upstream \"no.such.host\"",
    );
    row(
        "location / { proxy_pass http://127.0.0.1; proxy_pass http://127.0.0.2; }",
        "[emerg] \"proxy_pass\" directive is duplicate",
    );
    row("upstream u { } server { }", "[emerg] no servers are inside upstream");
    row("upstream u { server no.such:1; } server { }", "[emerg] host not found in upstream \"no.such:1\"");
    row("upstream u { server 1.2.3.4 weight=x; } server { }", "[emerg] invalid parameter \"weight=x\"");
    row(
        "upstream u { server 1.2.3.4; } upstream U { server 1.2.3.4; } server { }",
        "[emerg] duplicate upstream \"U\"",
    );
    row("upstream u { server 1.2.3.4 backup; } server { }", "[emerg] no servers in upstream \"u\"");
    row(
        "upstream u { server 1.2.3.4; } server { location / { proxy_pass http://u:80; } }",
        "[emerg] upstream \"u\" may not have port 80",
    );
    row("proxy_buffers 1 4k;", "[emerg] there must be at least 2 \"proxy_buffers\"");
    row(
        "proxy_buffer_size 64k;",
        "[emerg] \"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" minus one buffer",
    );
}

#[test]
fn names_made_at_run_time() {
    logs(
        "server { location / { set $h no.such.host; proxy_pass http://$h; } }",
        "",
        "502",
        "no resolver defined to resolve no.such.host",
    );
    logs(
        "resolver 127.0.0.1 valid=5s; server { location / { set $h no.such.host.invalid; proxy_pass http://$h; } }",
        "",
        "502",
        "no.such.host.invalid could not be resolved (3: Host not found)",
    );
    check(
        "resolver 127.0.0.1 ipv6=off; server { location / { set $h localhost; proxy_pass http://$h:PORT; } }",
        OK,
        &get("/"),
        "200 ok",
    );
    logs(
        "server { location / { set $h x://y; proxy_pass $h; } }",
        "",
        "500  close",
        "invalid URL prefix in \"x://y\"",
    );
}
