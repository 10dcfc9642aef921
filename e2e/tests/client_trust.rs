//! Whose authorities judge a client's certificate when its handshake and its request name different servers, beside nginx on
//! the same configuration; and which sessions of one server another takes up.
#![forbid(unsafe_code)]

use tidegate_e2e::certificates::{Authority, Kind as Key};
use tidegate_e2e::openssl::s_client;
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};

/// Sessions are kept in one store for all, and in tickets of one key for all: what holds them apart is the servers alone.
const CONFIG: &str = "
    ssl_certificate %%DIR%%/a.crt; ssl_certificate_key %%DIR%%/a.key;
    ssl_session_cache shared:all:1m; ssl_session_ticket_key %%DIR%%/ticket.key; %%TICKETS%%
    server { listen 127.0.0.1:%%PORT%%; return 204; }

    server { listen 127.0.0.1:%%ASKS%% ssl; server_name one.test; ssl_verify_client on; %%CA1%% %%WHO%% }
    server { listen 127.0.0.1:%%ASKS%% ssl; server_name like.test also.test; ssl_verify_client on; %%CA1%% %%WHO%% }
    server { listen 127.0.0.1:%%ASKS%% ssl; server_name two.test; ssl_verify_client on; %%CA2%% %%WHO%% }
    server { listen 127.0.0.1:%%ASKS%% ssl; server_name maybe.test; ssl_verify_client optional; %%CA2%% %%WHO%% }
    server { listen 127.0.0.1:%%ASKS%% ssl; server_name any.test; ssl_verify_client optional_no_ca; %%CA2%% %%WHO%% }
    server { listen 127.0.0.1:%%ASKS%% ssl; server_name off.test; %%WHO%% }

    server { listen 127.0.0.1:%%OPEN%% ssl; server_name open.test; %%WHO%% }
    server { listen 127.0.0.1:%%OPEN%% ssl; server_name two.test; ssl_verify_client on; %%CA2%% %%WHO%% }
    server { listen 127.0.0.1:%%OPEN%% ssl; server_name maybe.test; ssl_verify_client optional; %%CA2%% %%WHO%% }

    server { listen 127.0.0.1:%%TWO%% ssl; server_name one.test; ssl_verify_client on; %%CA2%% %%WHO%% }";

fn config(tickets: &str) -> String {
    let who = "return 200 '$ssl_client_verify $ssl_client_s_dn $server_name $ssl_session_reused\\n';";
    let of = |name: &str| format!("ssl_client_certificate %%DIR%%/{name}.crt;");
    let text = CONFIG.replace("%%WHO%%", who).replace("%%CA1%%", &of("one")).replace("%%CA2%%", &of("two"));
    whole(&text.replace("%%TICKETS%%", tickets))
}

const PORTS: [&str; 4] = ["PORT", "ASKS", "OPEN", "TWO"];

/// A proxy, and clients' certificates of two authorities called `by-one` and `by-two`.
fn start(kind: Kind, tickets: &str) -> Proxy {
    let place = Place::new(&PORTS);
    for name in ["one", "two"] {
        let authority = Authority::new(name);
        authority.own().write(&place, name);
        authority.issue(Key::Ecdsa, &format!("by-{name}"), &[]).write(&place, &format!("by-{name}"));
    }
    Authority::new("ca").issue(Key::Ecdsa, "a", &[]).write(&place, "a");
    place.dir.write("ticket.key", &[7; 80]);
    let mut proxy = Proxy::start(kind, place, &config(tickets));
    PORTS.iter().for_each(|port| proxy.wait_listening(port));
    proxy
}

struct Client {
    kind: Kind,
    proxy: Proxy,
    wrong: Vec<String>,
}

/// nginx does as we do.
const SAME: &str = "=";
const NONE: &str = "400 No required SSL certificate was sent";
const WRONG: &str = "400 The SSL certificate error";
const OTHER: &str = "421 Misdirected Request";

impl Client {
    fn new(kind: Kind, tickets: &str) -> Client {
        Client { kind, proxy: start(kind, tickets), wrong: Vec::new() }
    }

    /// What a client is answered that names a server in its handshake (none: a dash), another as its host, and shows a
    /// certificate or none.
    fn check(&mut self, port: &str, name: &str, host: &str, own: &str, ours: &str, nginx: &str) {
        for protocol in ["-tls1_2", "-tls1_3"] {
            self.ask(port, &format!("{protocol} {}", switches(name, own)), host, ours, nginx);
        }
    }

    fn ask(&mut self, port: &str, switches: &str, host: &str, ours: &str, nginx: &str) {
        let expected = if self.kind == Kind::Nginx && nginx != SAME { nginx } else { ours };
        let request = match host {
            "-" => "GET / HTTP/1.0\r\n\r\n".to_owned(),
            host => format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        };
        let dir = self.proxy.place.dir.path();
        let said = s_client(self.proxy.place.port(port).number(), switches, dir, &request);
        let came = said.answer().unwrap_or_else(|| format!("alert {:?}", said.alert()));
        if came != expected {
            self.wrong.push(format!("{port} {switches} {host}\n     came: {came}\n expected: {expected}"));
        }
    }

    fn done(self) {
        assert!(self.wrong.is_empty(), "{}:\n{}", self.kind, self.wrong.join("\n"));
    }
}

fn switches(name: &str, own: &str) -> String {
    let name = if name == "-" { "-noservername".to_owned() } else { format!("-servername {name}") };
    if own == "-" { name } else { format!("{name} -cert {own}.crt -key {own}.key") }
}

/// A name that a server has binds the connection to it; without one each server judges for itself, where nginx believes what
/// the default server's authorities have said.
fn names_and_hosts(kind: Kind) {
    let mut client = Client::new(kind, "");
    let mut check = |port: &str, name: &str, host: &str, own: &str, ours: &str, nginx: &str| {
        client.check(port, name, host, own, ours, nginx);
    };
    for name in ["-", "unknown.test"] {
        check("ASKS", name, "one.test", "by-one", "200 SUCCESS CN=by-one one.test .", SAME);
        check("ASKS", name, "one.test", "-", NONE, SAME);
        check("ASKS", name, "one.test", "by-two", WRONG, SAME);
        check("ASKS", name, "like.test", "by-one", "200 SUCCESS CN=by-one like.test .", SAME);
        check("ASKS", name, "unknown.test", "by-one", "200 SUCCESS CN=by-one one.test .", SAME);
        check("ASKS", name, "-", "by-one", "200 SUCCESS CN=by-one one.test .", SAME);
        check("ASKS", name, "off.test", "by-one", "200 SUCCESS CN=by-one off.test .", SAME);
        check("ASKS", name, "off.test", "-", "200 NONE  off.test .", SAME);

        check("ASKS", name, "two.test", "-", NONE, SAME);
        check("ASKS", name, "two.test", "by-one", WRONG, "200 SUCCESS CN=by-one two.test .");
        check("ASKS", name, "two.test", "by-two", "200 SUCCESS CN=by-two two.test .", WRONG);
        check("ASKS", name, "maybe.test", "-", "200 NONE  maybe.test .", SAME);
        check("ASKS", name, "maybe.test", "by-one", WRONG, "200 SUCCESS CN=by-one maybe.test .");
        let failed = "200 FAILED:unable to verify the first certificate CN=by-one any.test .";
        check("ASKS", name, "any.test", "by-one", failed, "200 SUCCESS CN=by-one any.test .");

        check("OPEN", name, "open.test", "by-one", "200 NONE  open.test .", SAME);
        check("OPEN", name, "two.test", "by-two", NONE, SAME);
        check("OPEN", name, "maybe.test", "by-two", "200 NONE  maybe.test .", SAME);
    }
    check("ASKS", "two.test", "two.test", "by-two", "200 SUCCESS CN=by-two two.test .", SAME);
    check("ASKS", "two.test", "TWO.test:443", "by-two", "200 SUCCESS CN=by-two two.test .", SAME);
    check("OPEN", "two.test", "-", "by-two", "200 SUCCESS CN=by-two open.test .", SAME);
    for host in
        ["-", "one.test", "two.test", "maybe.test", "any.test", "like.test", "unknown.test", "127.0.0.1"]
    {
        for name in ["also.test", "off.test"] {
            check("ASKS", name, host, "by-one", OTHER, SAME);
        }
    }
    check("ASKS", "also.test", "off.test", "by-one", "200 SUCCESS CN=by-one off.test .", SAME);
    for host in ["two.test", "maybe.test"] {
        check("OPEN", "open.test", host, "-", OTHER, SAME);
    }
    check("OPEN", "two.test", "open.test", "by-two", "200 SUCCESS CN=by-two open.test .", SAME);
    client.done();
}

/// A session is good where it began: nobody gets by with a certificate that another server's authorities have judged.
fn sessions(kind: Kind) {
    for (tickets, protocol) in [
        ("", "-tls1_2"),
        ("", "-tls1_3"),
        ("ssl_session_tickets off;", "-tls1_2"),
        ("ssl_session_tickets off;", "-tls1_3"),
    ] {
        let mut client = Client::new(kind, tickets);
        let mut ask = |port: &str, name: &str, host: &str, rest: &str, ours: &str, nginx: &str| {
            client.ask(port, &format!("{protocol} {} {rest}", switches(name, "-")), host, ours, nginx);
        };
        // Without tickets a session of TLS 1.3 can be taken up once here: each row that does so has one of its own.
        for file in ["one.pem", "more.pem"] {
            let own = format!("-cert by-one.crt -key by-one.key -sess_out {file}");
            ask("ASKS", "one.test", "one.test", &own, "200 SUCCESS CN=by-one one.test .", SAME);
        }
        ask("ASKS", "one.test", "two.test", "-sess_in more.pem", OTHER, SAME);
        let back = "-sess_in one.pem";
        ask("ASKS", "two.test", "two.test", back, NONE, SAME);
        ask("ASKS", "maybe.test", "maybe.test", back, "200 NONE  maybe.test .", SAME);
        ask("ASKS", "any.test", "any.test", back, "200 NONE  any.test .", SAME);
        ask("OPEN", "open.test", "open.test", back, "200 NONE  open.test .", SAME);
        ask("TWO", "one.test", "one.test", back, NONE, SAME);
        ask("ASKS", "one.test", "one.test", back, "200 SUCCESS CN=by-one one.test r", SAME);
        client.done();
    }
}

tidegate_e2e::openssl_beside_nginx!(names_and_hosts, sessions);
