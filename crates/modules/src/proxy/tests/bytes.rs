//! The request as it goes upstream, byte for byte as nginx 1.31.3 sends it (1.31.5 moves `Host` before the configured
//! fields, and sends one where `proxy_set_header Host ""` asks for none; we do only the latter).

use super::{Backend, OK, get, serve};

/// The exact request an upstream gets; `PORT` in `expected` is its port, lines are joined with CR LF.
#[track_caller]
fn check(config: &str, request: &str, expected: &str) {
    let backend = Backend::new(vec![vec![OK]]);
    let seen = serve(&format!("server {{ {config} }}"), &backend, &[request]);
    let expected = expected.replace("PORT", &backend.port.to_string()).replace('|', "\r\n");
    assert_eq!(seen.received.first(), Some(&expected), "{config}\n{request}\n{}", seen.error_log);
}

const TO: &str = "proxy_pass http://127.0.0.1:PORT";

#[test]
fn the_uri_is_replaced_as_nginx_does() {
    let row = |location: &str, pass: &str, target: &str, expected: &str| {
        check(
            &format!("location {location} {{ {TO}{pass}; }}"),
            &get(target),
            &format!("GET {expected} HTTP/1.1|Host: 127.0.0.1:PORT||"),
        );
    };
    // Without a URI part the request's own goes on as it was sent.
    row("/", "", "/a%2fb/../c?x=%20y", "/a%2fb/../c?x=%20y");
    row("/", "", "/a//b", "/a//b");
    row("/", "", "http://h/a", "/a");
    row("/", "", "http://h?a=b", "/?a=b");
    // With one, the normalised URI behind the location's text.
    row("/", "/", "/a%2fb/../c?x=%20y", "/a/c?x=%20y");
    row("/a", "/b", "/ac/d", "/bc/d");
    row("/a/", "/b/", "/a/c%20d%25", "/b/c%20d%25");
    row("/a/", "/", "/a/c?q", "/c?q");
    row("/a", "?x", "/ac", "?xc");
    row("= /a", "/b", "/a?q=1", "/b?q=1");
    row("/a", "/b?", "/a/x?q=1", "/b?/x?q=1");
    row("~ ^/a", "", "/a/b", "/a/b");
    // A path that was rewritten is escaped again.
    check(
        &format!("location / {{ rewrite ^/a/(.*) /b/$1 break; {TO}; }}"),
        &get("/a/c%20d?q"),
        "GET /b/c%20d?q HTTP/1.1|Host: 127.0.0.1:PORT||",
    );
    check(
        &format!("location /a/ {{ rewrite ^/a/(.*) /b/$1 break; {TO}/x/; }}"),
        &get("/a/c"),
        "GET /b/c HTTP/1.1|Host: 127.0.0.1:PORT||",
    );
}

#[test]
fn a_url_with_variables() {
    let row = |set: &str, pass: &str, target: &str, expected: &str| {
        check(
            &format!("set $a 127.0.0.1:PORT; {set} location /l/ {{ proxy_pass {pass}; }}"),
            &get(target),
            &format!("GET {expected} HTTP/1.1|Host: 127.0.0.1:PORT||"),
        );
    };
    row("", "http://$a", "/l/x?y", "/l/x?y");
    row("", "http://$a/fixed", "/l/x?y", "/fixed");
    row("", "http://$a$request_uri", "/l/%41?y", "/l/%41?y");
    row("", "http://$a?q=$arg_y", "/l/x?y=1", "/?q=1");
    row("", "HTTP://$a/u", "/l/x", "/u");
    check(
        "location / { set $n Back; proxy_pass http://$n; } } upstream back { server 127.0.0.1:PORT;",
        &get("/x"),
        "GET /x HTTP/1.1|Host: Back||",
    );
}

#[test]
fn headers() {
    let request = "GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: t\r\nTE: trailers\r\nKeep-Alive: 1\r\n\
                   Proxy-Connection: x\r\nX-One: 1\r\nConnection: keep-alive\r\nExpect: \r\nAccept: */*\r\n\r\n";
    let row = |lines: &str, expected: &str| {
        check(&format!("location / {{ {TO}; {lines} }}"), request, &format!("GET / HTTP/1.1|{expected}||"));
    };
    row("", "Host: 127.0.0.1:PORT|User-Agent: t|X-One: 1|Accept: */*");
    row("proxy_set_header Host $host;", "Host: example.com|User-Agent: t|X-One: 1|Accept: */*");
    row(
        "proxy_set_header X-One \"\"; proxy_set_header x-two $host$uri; proxy_set_header Host $http_host;",
        "x-two: example.com/|Host: example.com|User-Agent: t|Accept: */*",
    );
    row("proxy_set_header Host \"\";", "Host: 127.0.0.1:PORT|User-Agent: t|X-One: 1|Accept: */*");
    row(
        "proxy_set_header Connection close; proxy_set_header Accept-Encoding \"\";",
        "Connection: close|Host: 127.0.0.1:PORT|User-Agent: t|X-One: 1|Accept: */*",
    );
    row("proxy_pass_request_headers off;", "Host: 127.0.0.1:PORT");
    row(
        "proxy_set_header X-F $proxy_add_x_forwarded_for;",
        "X-F: 127.0.0.1|Host: 127.0.0.1:PORT|User-Agent: t|X-One: 1|Accept: */*",
    );
    row(
        "proxy_set_header P $proxy_host-$proxy_port;",
        "P: 127.0.0.1:PORT-PORT|Host: 127.0.0.1:PORT|User-Agent: t|X-One: 1|Accept: */*",
    );
    check(
        &format!("location / {{ {TO}; proxy_method PUT; proxy_pass_request_headers off; }}"),
        request,
        "PUT / HTTP/1.1|Host: 127.0.0.1:PORT||",
    );
}

#[test]
fn an_inner_line_replaces_all_outer_headers() {
    let outer = "proxy_set_header X-A a; proxy_set_header X-B b;";
    check(
        &format!("{outer} location / {{ {TO}; proxy_set_header X-C c; }}"),
        &get("/"),
        "GET / HTTP/1.1|X-C: c|Host: 127.0.0.1:PORT||",
    );
    check(
        &format!("{outer} location / {{ {TO}; proxy_hide_header X; }}"),
        &get("/"),
        "GET / HTTP/1.1|X-A: a|X-B: b|Host: 127.0.0.1:PORT||",
    );
}

#[test]
fn http_1_0() {
    check(
        &format!("location / {{ {TO}; proxy_http_version 1.0; proxy_set_header Host \"\"; }}"),
        &get("/"),
        "GET / HTTP/1.0||",
    );
    check(
        &format!("location / {{ {TO}; proxy_http_version 1.0; }}"),
        &get("/"),
        "GET / HTTP/1.0|Host: 127.0.0.1:PORT||",
    );
}

#[test]
fn bodies() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\n\r\nhello";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\nhello";
    let row = |lines: &str, request: &str, expected: &str| {
        check(
            &format!("location / {{ {TO}; {lines} }}"),
            request,
            &format!("POST / HTTP/1.1|Host: 127.0.0.1:PORT|{expected}"),
        );
    };
    row("", post, "Content-Length: 5|X: y||hello");
    // Read whole, so its length is known.
    row("", chunked, "Content-Length: 5|X: y||hello");
    row("proxy_request_buffering off;", post, "Content-Length: 5|X: y||hello");
    // All of it is here when the head is.
    row("proxy_request_buffering off;", chunked, "Content-Length: 5|X: y||hello");
    row("client_body_buffer_size 2;", post, "Content-Length: 5|X: y||hello");
    row("client_body_buffer_size 2;", chunked, "Transfer-Encoding: chunked|X: y||5|hello|0||");
    row("proxy_set_body <$request_method>;", post, "Content-Length: 6|X: y||<POST>");
    row("proxy_pass_request_body off;", post, "X: y||");
    check(
        &format!("location / {{ {TO}; proxy_set_header X-L $content_length; }}"),
        post,
        "POST / HTTP/1.1|X-L: 5|Host: 127.0.0.1:PORT|Content-Length: 5|X: y||hello",
    );
    row("", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "Content-Length: 0||");
}

#[test]
fn fields_that_connection_names_stay_here() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, Origin, close, cookie, authorization, host\r\n\
                   X-Hop: 1\r\nOrigin: o\r\nCookie: c\r\nAuthorization: b\r\nX-Other: 2\r\n\r\n";
    check(
        &format!("location / {{ {TO}; }}"),
        request,
        "GET / HTTP/1.1|Host: 127.0.0.1:PORT|Origin: o|Cookie: c|Authorization: b|X-Other: 2||",
    );
    // What the configuration says is not the client's to remove.
    check(
        &format!("location / {{ {TO}; proxy_set_header X-Hop ours; }}"),
        request,
        "GET / HTTP/1.1|X-Hop: ours|Host: 127.0.0.1:PORT|Origin: o|Cookie: c|Authorization: b|X-Other: 2||",
    );
}
