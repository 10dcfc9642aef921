//! Bytes meant to harm: line ends in values, requests and answers that would leave a connection out of step.

use super::{Backend, OK, check, get, serve};

/// What the upstream got, or what the client's head is, for a path with a decoded line end in it.
#[track_caller]
fn sent(lines: &str, target: &str, has: &str) {
    let config = format!("server {{ location / {{ proxy_pass http://127.0.0.1:PORT; {lines} }} }}");
    let seen = check(&config, OK, &get(target), "200 ok");
    let request = &seen.received[0];
    assert!(request.contains(has), "{request}");
    assert!(!request.contains("\nEvil"), "{request}");
}

#[test]
fn line_ends_in_values_make_no_lines_upstream() {
    sent("proxy_set_header X $uri;", "/a%0d%0aEvil:1", "X: /a  Evil:1\r\n");
    sent("proxy_set_header X $uri;", "/a%0aEvil:1", "X: /a Evil:1\r\n");
    sent("set $v $uri; proxy_set_header Host $v;", "/a%0d%0aEvil:1", "Host: /a  Evil:1\r\n");
    sent("set $v $uri; proxy_method $v;", "/a%0d%0aEvil:1", "/a%0D%0AEvil:1 /a%0d%0aEvil:1 HTTP/1.1\r\n");
    let config = "server { location / { proxy_pass http://127.0.0.1:PORT$uri; } }";
    let seen = check(config, OK, &get("/a%0d%0aEvil:1%0d%0a%0d%0aGET%20/b"), "200 ok");
    assert!(
        seen.received[0].starts_with("GET /a%0D%0AEvil:1%0D%0A%0D%0AGET /b HTTP/1.1\r\n"),
        "{:?}",
        seen.received
    );
}

#[test]
fn line_ends_in_values_make_no_lines_for_the_client() {
    let row = |lines: &str, answer: &'static str, name: &str, value: &str| {
        let config = format!("server {{ location / {{ proxy_pass http://127.0.0.1:PORT; {lines} }} }}");
        let seen = check(&config, answer, &get("/a%0d%0aEvil:1"), "200 ok");
        let head = &seen.answers[0].text;
        assert!(head.contains(&format!("{name}: {value}")), "{head}");
        assert!(!head.contains("\nEvil"), "{head}");
    };
    row("add_header X $uri;", OK, "X", "/a  Evil:1");
    const MOVED: &str = "HTTP/1.1 200 OK\r\nLocation: http://b/x\r\nRefresh: 1; url=http://b/x\r\nSet-Cookie: a=b; path=/\r\n\
                         Content-Length: 2\r\n\r\nok";
    row("proxy_redirect http://b http://c$uri;", MOVED, "Location", "http://c/a%0D%0AEvil:1/x");
    row("proxy_redirect http://b http://c$uri;", MOVED, "Refresh", "1; url=http://c/a  Evil:1/x");
    row("proxy_cookie_path / $uri;", MOVED, "Set-Cookie", "a=b; path=/a  Evil:1");
}

/// nginx passes these on; to a client such an answer has no end, or ends where it doesn't for us.
#[test]
fn a_status_below_100_is_no_answer() {
    let config = "server { location / { proxy_pass http://127.0.0.1:PORT; } }";
    for answer in
        ["HTTP/1.1 000 x\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 099 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"]
    {
        let seen = check(config, answer, &get("/"), "502");
        assert!(seen.error_log.contains("upstream sent invalid status 0"), "{}", seen.error_log);
    }
}

#[test]
fn interim_answers_come_to_an_end() {
    let config = "server { location / { proxy_pass http://127.0.0.1:PORT; } }";
    let flood: &'static str = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100).leak();
    let seen = check(config, flood, &get("/"), "502");
    assert!(seen.error_log.contains("too many interim responses"), "{}", seen.error_log);
}

/// (CVE-2026-71324, golang/go CVE-2026-56866) After CONNECT the peer may talk anything.
#[test]
fn a_connection_that_saw_connect_is_never_pooled() {
    const STAY: &str = "STAYHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let backend = Backend::new(vec![vec![STAY], vec!["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"]]);
    let config = "upstream u { server 127.0.0.1:PORT; keepalive 4; } \
                  server { location / { proxy_pass http://u; proxy_method $arg_m; } }";
    let seen = serve(config, &backend, &[&get("/?m=CONNECT"), &get("/?m=GET")]);
    assert_eq!(seen.answers[1].body, b"second", "{}", seen.error_log);
}

/// A body of which one location passed a part on cannot be sent again: the next upstream would wait for bytes it was
/// promised, and take the next request on that connection, somebody else's, for them.
#[test]
fn a_body_is_whole_or_not_sent() {
    const NO: &str = "HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    let row = |lines: &str, request: &str, expected: u16, received: usize| {
        let backend = Backend::new(vec![vec![NO], vec![OK, OK]]);
        let config = format!(
            "client_body_buffer_size 4; upstream u {{ server 127.0.0.1:PORT; keepalive 4; }} server {{ \
             location / {{ proxy_pass http://u; proxy_intercept_errors on; error_page 503 = {lines}; }} \
             location /get {{ proxy_pass http://u; }} location @other {{ proxy_pass http://u; }} }}"
        );
        let seen = serve(&config, &backend, &[request]);
        assert_eq!(seen.answers[0].status, expected, "{}", seen.error_log);
        assert_eq!(seen.received.len(), received, "{:?}", seen.received);
        seen.received.last().cloned().unwrap_or_default()
    };
    let small = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let large = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabcdefghi";
    assert!(row("@other", small, 200, 2).ends_with("Content-Length: 3\r\n\r\nabc"));
    row("@other", large, 502, 1);
    // What became a GET on the way goes without a body.
    let last = row("/get", large, 200, 2);
    assert!(last.starts_with("GET /get ") && !last.contains("Content-Length"), "{last}");
}
