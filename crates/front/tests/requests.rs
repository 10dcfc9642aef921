//! What a client is answered, byte by byte.

mod support;

use support::House;

const CONF: &str = r#"
    server {
        listen ADDR;
        access_log access.log "$request $status $bytes_sent $body_bytes_sent $connection_requests $complete";
        error_log error.log;
        location / { answer text 200 hi; }
        location /echo { answer echo; }
        location /small { set client_max_body_size 4; answer echo; }
        location /stream { answer stream 2 3 0; }
        location /length { answer stream 2 3 0 6; }
        location /less { answer stream 2 3 0 7; }
        location /more { answer stream 2 3 0 5; }
        location /unchunked { set chunked_transfer_encoding off; answer stream 2 3 0; }
        location /exact { answer exact; }
        location /cut { answer cut; }
        location /none { answer status 204; }
        location /same { answer text 304 ""; }
        location /304 { answer status 304; }
        location /404 { answer status 404; }
        location /401 { answer field 401; }
        location /444 { answer status 444; }
        location /499 { answer status 499; }
        location /418 { answer status 418; }
        location /next { answer next; }
        location /abort { answer abort; }
        location /panic { answer panic; }
        location /twice { answer twice; }
        location /hints { answer hints; }
        location /inner { set internal on; answer text 200 inner; }
        location /to { answer redirect /inner; }
        location /named { answer redirect @name; }
        location @name { answer text 200 $uri; }
        location /nowhere { answer redirect @nowhere; }
        location /cycle { answer redirect /cycle; }
        location /page { error_page 404 /inner; answer status 404; }
        location /page200 { error_page 404 =200 /inner; answer status 404; }
        location /own { error_page 404 = @teapot; answer status 404; }
        location @teapot { answer text 418 tea; }
        location /lost { error_page 404 /gone; answer status 404; }
        location /gone { answer status 410; }
        location /away { error_page 404 http://a/; answer status 404; }
        location /once { set keepalive_timeout 0; answer text 200 hi; }
        location /third { set keepalive_requests 3; answer text 200 hi; }
    }
"#;

#[track_caller]
fn check(house: &House, pieces: &[&str], expected: &str) {
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
    assert_eq!(
        house.say(&pieces),
        expected,
        "{:?}",
        pieces.iter().map(|p| String::from_utf8_lossy(p)).collect::<Vec<_>>()
    );
}

#[track_caller]
fn get(house: &House, path: &str, expected: &str) {
    check(house, &[&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")], expected);
}

const HI: &str = "200 OK|len 2|keep-alive||hi";

#[test]
fn responses_and_their_framing() {
    let house = House::new(CONF);
    get(&house, "/", HI);
    get(&house, "/stream", "200 OK|chunked|keep-alive||3|aaa|3|bbb|0||");
    get(&house, "/length", "200 OK|len 6|keep-alive||aaabbb");
    get(&house, "/less", "200 OK|len 7|keep-alive||aaabbb");
    get(&house, "/more", "200 OK|len 5|keep-alive||aaabb");
    get(&house, "/unchunked", "200 OK|close||aaabbb");
    get(&house, "/cut", "200 OK|chunked|keep-alive||3|cut|");
    get(&house, "/none", "204 No Content|keep-alive||");
    get(&house, "/same", "304 Not Modified|keep-alive||");
    get(&house, "/304", "304 Not Modified|len 0|keep-alive||");
    get(&house, "/404", "404 Not Found|Content-Type: text/html|len 153|keep-alive||[404 Not Found]");
    get(&house, "/418", "418 |len 0|keep-alive||");
    get(&house, "/next", "404 Not Found|Content-Type: text/html|len 153|keep-alive||[404 Not Found]");
    get(&house, "/444", "");
    get(&house, "/499", "");
    get(&house, "/abort", "");
    get(&house, "/panic", "");
    get(&house, "/twice", "200 OK|len 1|keep-alive||1");
    get(&house, "/hints", "103 Early Hints|Link: </a.css>||200 OK|len 5|keep-alive||later");
    get(&house, "/once", "200 OK|len 2|close||hi");
}

#[test]
fn statuses_lead_to_pages_and_other_locations() {
    let house = House::new(CONF);
    get(
        &house,
        "/401",
        "401 Unauthorized|Content-Type: text/html|len 179|keep-alive|WWW-Authenticate: Basic||[401 Authorization Required]",
    );
    get(&house, "/inner", "404 Not Found|Content-Type: text/html|len 153|keep-alive||[404 Not Found]");
    get(&house, "/to", "200 OK|len 5|keep-alive||inner");
    get(&house, "/named", "200 OK|len 6|keep-alive||/named");
    get(
        &house,
        "/nowhere",
        "500 Internal Server Error|Content-Type: text/html|len 177|close||[500 Internal Server Error]",
    );
    get(
        &house,
        "/cycle",
        "500 Internal Server Error|Content-Type: text/html|len 177|close||[500 Internal Server Error]",
    );
    get(&house, "/page", "404 Not Found|len 5|keep-alive||inner");
    get(&house, "/page200", "200 OK|len 5|keep-alive||inner");
    get(&house, "/own", "418 |len 3|keep-alive||tea");
    get(&house, "/lost", "410 Gone|Content-Type: text/html|len 143|keep-alive||[410 Gone]");
    get(
        &house,
        "/away",
        "302 Moved Temporarily|Content-Type: text/html|len 145|keep-alive|Location: http://a/||[302 Found]",
    );
}

#[test]
fn versions_and_methods() {
    let house = House::new(CONF);
    check(&house, &["GET /\r\n"], "hi");
    check(&house, &["GET /stream\r\n"], "aaabbb");
    check(&house, &["GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n"], "200 OK|len 2|close||hi");
    let kept = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    check(&house, &[kept, kept], &[HI, HI].concat());
    check(&house, &["GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"], "200 OK|close||aaabbb");
    check(&house, &["HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"], "200 OK|len 2|keep-alive||");
    check(&house, &["HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n"], "200 OK|keep-alive||");
    let page = "404 Not Found|Content-Type: text/html|len 153|keep-alive||";
    check(&house, &["HEAD /404 HTTP/1.1\r\nHost: a\r\n\r\n"], page);
    check(&house, &["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"], "200 OK|len 2|close||hi");
}

#[test]
fn requests_behind_each_other() {
    let house = House::new(CONF);
    let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(&house, &[&one.repeat(50)], &HI.repeat(50));
    check(&house, &[&format!("{one}\r\n\r\n{one}")], &HI.repeat(2));
    let post = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let echoed = "200 OK|len 3|keep-alive||abc";
    check(&house, &[&format!("{post}{one}{post}{one}")], &[echoed, HI, echoed, HI].concat());
    let third = "GET /third HTTP/1.1\r\nHost: a\r\n\r\n";
    check(&house, &[&third.repeat(5)], &[HI, HI, "200 OK|len 2|close||hi"].concat());
    let exact = "GET /exact HTTP/1.1\r\nHost: a\r\n\r\n";
    check(&house, &[&exact.repeat(2)], &"200 OK|len 3|keep-alive||abc".repeat(2));
    // What follows a response that was cut is not answered.
    check(
        &house,
        &[&format!("GET /less HTTP/1.1\r\nHost: a\r\n\r\n{one}")],
        "200 OK|len 7|keep-alive||aaabbb",
    );
}

#[test]
fn heads_in_pieces() {
    let house = House::new(CONF);
    let text = "POST /echo HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let expected = ["200 OK|len 5|keep-alive||hello", HI].concat();
    for at in 1..text.len() {
        let (front, back) = text.split_at(at);
        check(&house, &[front, back], &expected);
    }
    let bytes: Vec<&str> = (0..text.len()).map(|at| &text[at..=at]).collect();
    check(&house, &bytes, &expected);
}

#[test]
fn chunked_bodies_in_pieces() {
    let house = House::new(CONF);
    let text = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let expected = ["200 OK|len 13|keep-alive||abc0123456789", HI].concat();
    for at in 1..text.len() {
        let (front, back) = text.split_at(at);
        check(&house, &[front, back], &expected);
    }
    let bad = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    check(&house, &[bad], "400 Bad Request|Content-Type: text/html|len 157|close||[400 Bad Request]");
    assert!(house.log("error.log").contains("client sent invalid chunked body"));
}

const TOO_LARGE: &str =
    "413 Request Entity Too Large|Content-Type: text/html|len 183|close||[413 Request Entity Too Large]";

#[test]
fn bodies_over_the_limit() {
    let house = House::new(CONF);
    let head = "POST /small HTTP/1.1\r\nHost: a\r\n";
    check(&house, &[head, "Content-Length: 4\r\n\r\nabcd"], "200 OK|len 4|keep-alive||abcd");
    check(&house, &[head, "Content-Length: 5\r\n\r\nabcde"], TOO_LARGE);
    check(
        &house,
        &[head, "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"],
        "200 OK|len 4|keep-alive||abcd",
    );
    check(&house, &[head, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"], TOO_LARGE);
    let log = house.log("error.log");
    assert!(log.contains("client intended to send too large body: 5 bytes"), "{log}");
    assert!(log.contains("client intended to send too large chunked body: 3+2 bytes"), "{log}");
    // The client sends a lot more than it should and reads afterwards: it must not see a reset.
    let body = "x".repeat(1 << 20);
    check(&house, &[head, "Content-Length: 1048576\r\n\r\n", &body], TOO_LARGE);
}

#[test]
fn bodies_nobody_reads() {
    let house = House::new(CONF);
    let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let body = "x".repeat(300_000);
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{body}");
    check(&house, &[&post, one], &HI.repeat(2));
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n{body}\r\n0\r\n\r\n"
    );
    check(&house, &[&chunked, one], &HI.repeat(2));
    let bad = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n";
    check(&house, &[bad, one], "400 Bad Request|Content-Type: text/html|len 157|close||[400 Bad Request]");
    check(&house, &["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"], HI);
}

#[test]
fn clients_that_wait_for_100() {
    let house = House::new(CONF);
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    };
    for (path, answer) in [("/echo", "200 OK|len 2|keep-alive||ab"), ("/", HI)] {
        let mut talk = house.connect();
        talk.send(head(path).as_bytes());
        assert_eq!(talk.until("\r\n\r\n"), "100 Continue||", "{path}");
        talk.send(b"ab");
        assert_eq!(talk.finish(), answer, "{path}");
    }
    // An error is the answer itself; the body may come or not.
    let page = "404 Not Found|Content-Type: text/html|len 153|keep-alive||[404 Not Found]";
    check(&house, &[&head("/404")], page);
    check(&house, &[&head("/404"), "abGET / HTTP/1.1\r\nHost: a\r\n\r\n"], &[page, HI].concat());
    check(
        &house,
        &["POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab"],
        "200 OK|len 2|close||ab",
    );
}

#[test]
fn heads_that_are_refused() {
    let house = House::new(CONF);
    let bad = "400 Bad Request|Content-Type: text/html|len 157|close||[400 Bad Request]";
    check(&house, &["GET / HTTP/1.1\r\n\r\n"], bad);
    check(&house, &["GET / HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\nGET / HTTP/1.1\r\n\r\n"], bad);
    check(&house, &["\x16\x03\x01 nonsense\r\n\r\n"], bad);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    check(
        &house,
        &[&large],
        "400 Bad Request|Content-Type: text/html|len 233|close||[400 Request Header Or Cookie Too Large]",
    );
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(40_000));
    check(
        &house,
        &[&long],
        "414 Request-URI Too Large|Content-Type: text/html|len 177|close||[414 Request-URI Too Large]",
    );
    check(
        &house,
        &["GET / HTTP/3.0\r\n\r\n"],
        "505 HTTP Version Not Supported|Content-Type: text/html|len 187|close||[505 HTTP Version Not Supported]",
    );
    check(
        &house,
        &["TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"],
        "405 Not Allowed|Content-Type: text/html|len 157|close||[405 Not Allowed]",
    );
    // Heads that stop in the middle are not answered.
    check(&house, &["GET / HT"], "");
    check(&house, &["GET / HTTP/1.1\r\nHos"], "");
    check(&house, &["\r\n"], "");
    check(&house, &[], "");
    let log = house.lines("access.log", 10);
    let tail: Vec<&str> = log.lines().rev().take(3).collect();
    assert_eq!(tail, ["- 400 0 0 1 ", "GET / HTTP/1.1 400 0 0 1 ", "GET / HT 400 0 0 1 "], "{log}");
}

#[test]
fn what_the_log_says() {
    let house = House::new(CONF);
    let line = |path: &str, expected: &str| {
        let count = house.log("access.log").lines().count();
        house.say(&[format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()]);
        let log = house.lines("access.log", count + 1);
        assert_eq!(log.lines().last(), Some(format!("GET {path} HTTP/1.1 {expected}").as_str()));
    };
    let head = "HTTP/1.1 200 OK\r\nServer: nginx/1.31.5\r\nDate: Mon, 23 Nov 2026 01:15:45 GMT\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n".len();
    line("/", &format!("200 {} 2 1 OK", head + 2));
    // The chunked coding counts as body.
    line(
        "/stream",
        &format!(
            "200 {} 21 1 OK",
            head - "Content-Length: 2\r\n".len() + "Transfer-Encoding: chunked\r\n".len() + 21
        ),
    );
    line("/444", "444 0 0 1 ");
    line("/499", "499 0 0 1 ");
    line("/418", &format!("418 {} 0 1 OK", head - 2));
    line("/none", &format!("204 {} 0 1 OK", head - "Content-Length: 2\r\n".len() + "No Content".len() - 2));
    line("/abort", "0 0 0 1 ");
    let log = || house.log("error.log");
    assert!(!log().contains("panic"));
    house.say(&[b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n"]);
}
