//! One configuration with a listener for each way of TLS, and its certificates.

use std::fs::File;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::Signal;
use tidegate_e2e::certificates::{Authority, Kind as Key, Pair};
use tidegate_e2e::programs::Running;
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};

/// How a handshake gets to the backend.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    lines: &'static str,
    tls: bool,
}

impl Style {
    /// Nothing is written for it.
    pub(crate) const AUTO: Style = Style { lines: "", tls: false };
    /// What everybody has copied from nginx's page.
    pub(crate) const LINES: Style = Style {
        lines: "proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection \"upgrade\";",
        tls: false,
    };

    /// The same to a backend that has a certificate, which is looked at.
    pub(crate) const fn to_tls(self) -> Style {
        Style { tls: true, ..self }
    }

    fn location(self) -> String {
        let pass = match self.tls {
            false => "proxy_pass http://backend;",
            true => {
                "proxy_pass https://backend; proxy_ssl_name localhost; proxy_ssl_server_name on;
                 proxy_ssl_verify on; proxy_ssl_trusted_certificate %%DIR%%/ca.crt;"
            }
        };
        format!("location /chat/ {{ {pass} {} }}", self.lines)
    }
}

/// Everything between the visitors and the backend.
const HTTP: &str = "
    log_format tls '$request_uri $status $ssl_protocol $ssl_cipher $ssl_session_reused $ssl_client_verify';
    access_log %%DIR%%/access.log tls;
    upstream backend { server 127.0.0.1:%%U%%; }

    ssl_certificate %%DIR%%/ec.crt;
    ssl_certificate_key %%DIR%%/ec.key;
    ssl_certificate %%DIR%%/rsa.crt;
    ssl_certificate_key %%DIR%%/rsa.key;
    ssl_session_cache shared:s:1m;

    server { listen 127.0.0.1:%%PORT%%; access_log off; return 204; }
    server { listen 127.0.0.1:%%TLS13%% ssl; ssl_protocols TLSv1.3; @CHAT@ }
    server { listen 127.0.0.1:%%TICKETS%% ssl; ssl_protocols TLSv1.2; @CHAT@ }
    server { listen 127.0.0.1:%%IDS%% ssl; ssl_protocols TLSv1.2; ssl_session_tickets off; @CHAT@ }
    server { listen 127.0.0.1:%%RSA13%% ssl; ssl_protocols TLSv1.3; @RSA@ @CHAT@ }
    server { listen 127.0.0.1:%%RSA12%% ssl; ssl_protocols TLSv1.2; @RSA@ @CHAT@ }
    server {
        listen 127.0.0.1:%%MUTUAL%% ssl;
        ssl_verify_client on;
        ssl_client_certificate %%DIR%%/ca.crt;
        @CHAT@
    }";

/// There is no other certificate in these servers.
const RSA: &str = "ssl_certificate %%DIR%%/rsa.crt; ssl_certificate_key %%DIR%%/rsa.key;";

/// TLS 1.3; TLS 1.2 with tickets; TLS 1.2 with session ids. Those that ask for no certificate.
pub(crate) const PORTS: [&str; 3] = ["TLS13", "TICKETS", "IDS"];

/// Making RSA keys takes time: all sites have the same.
struct Certificates {
    authorities: String,
    servers: [[Pair; 2]; 2],
    backend: Pair,
    client: Pair,
}

static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| {
    let ec = Authority::with_key(Key::Ecdsa, "ec authority");
    let rsa = Authority::with_key(Key::Rsa, "rsa authority");
    let server = |authority: &Authority, key, name: String| authority.issue(key, &name, &["localhost"]);
    let servers = |turn: usize| {
        [server(&ec, Key::Ecdsa, format!("ec-{turn}")), server(&rsa, Key::Rsa, format!("rsa-{turn}"))]
    };
    Certificates {
        authorities: ec.own().certificate + &rsa.own().certificate,
        servers: [servers(1), servers(2)],
        backend: server(&ec, Key::Ecdsa, "backend".to_owned()),
        client: ec.issue(Key::Ecdsa, "visitor", &[]),
    }
});

/// A proxy on that configuration.
pub(crate) struct Site {
    /// What runs.
    pub(crate) proxy: Proxy,
    style: Style,
    turn: usize,
    visits: usize,
}

impl Site {
    /// Starts one.
    pub(crate) fn start(kind: Kind, style: Style) -> Site {
        let place = Place::new(&["PORT", "U", "TLS13", "TICKETS", "IDS", "RSA13", "RSA12", "MUTUAL"]);
        let all = &*CERTIFICATES;
        place.dir.write("ca.crt", all.authorities.as_bytes());
        all.backend.write(&place, "backend");
        all.client.write(&place, "client");
        write_servers(&place, 0);
        place.dir.write("html/index.html", b"<!doctype html><title>site</title>");
        let config = whole(&HTTP.replace("@CHAT@", &style.location()).replace("@RSA@", RSA));
        let mut proxy = Proxy::start(kind, place, &config);
        PORTS.iter().chain(&["MUTUAL"]).for_each(|port| proxy.wait_listening(port));
        Site { proxy, style, turn: 0, visits: 0 }
    }

    /// Starts a backend that is told its certificate if it is to have one.
    pub(crate) fn backend(&self, command: &mut Command) -> Running {
        if self.style.tls {
            command.arg(self.file("backend.crt")).arg(self.file("backend.key"));
        }
        Running::start(command, &self.proxy)
    }

    /// Whether the backend is to speak TLS.
    pub(crate) fn to_tls(&self) -> bool {
        self.style.tls
    }

    /// A file of the site.
    pub(crate) fn file(&self, name: &str) -> String {
        self.proxy.place.dir.path().join(name).display().to_string()
    }

    /// The name in the certificate of that kind that is shown now.
    pub(crate) fn shows(&self, key: Key) -> String {
        let kind = if key == Key::Rsa { "rsa" } else { "ec" };
        format!("{kind}-{}", self.turn + 1)
    }

    /// Puts other certificates in place of those there are, and reloads.
    pub(crate) fn renew(&mut self) {
        self.turn = 1 - self.turn;
        write_servers(&self.proxy.place, self.turn);
        self.reload();
    }

    /// Reloads what there is.
    pub(crate) fn reload(&mut self) {
        // nginx's old worker says it with its pid before the words, ours with the generation's number.
        let gone = |proxy: &Proxy| proxy.lines_with("exited with code 0");
        let before = gone(&self.proxy);
        self.proxy.signal(Signal::HUP);
        self.proxy.wait_until("the reload", |proxy| gone(proxy) > before);
    }

    /// An address nobody has visited yet, and the words its line in the log begins with.
    pub(crate) fn address(&mut self, port: &str) -> (String, String) {
        self.visits += 1;
        let path = format!("/chat/?visit={}", self.visits);
        let number = self.proxy.place.port(port).number();
        (format!("wss://localhost:{number}{path}"), path)
    }

    /// Protocol, cipher, `.` or `r`, and what became of the client's certificate, of the visit to that path.
    pub(crate) fn logged(&mut self, path: &str, status: u64) -> [String; 4] {
        let mut found = None;
        self.proxy.wait_until(&format!("the line of {path}"), |proxy| {
            found = proxy.place.dir.read("access.log").lines().find_map(|line| line_of(line, path, status));
            found.is_some()
        });
        found.expect("just found")
    }
}

fn write_servers(place: &Place, turn: usize) {
    for (pair, name) in CERTIFICATES.servers[turn].iter().zip(["ec", "rsa"]) {
        pair.write(place, name);
        for end in ["crt", "key"] {
            // nginx keeps what it has read while a file's time is the same to the second.
            let file = File::options().write(true).open(place.dir.path().join(format!("{name}.{end}")));
            let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + turn as u64);
            file.and_then(|file| file.set_modified(time)).expect("our own file");
        }
    }
}

fn line_of(line: &str, path: &str, status: u64) -> Option<[String; 4]> {
    let mut words = line.split(' ');
    // What a client adds of its own comes behind ours.
    let rest = words.next()?.strip_prefix(path)?;
    let ours = rest.is_empty() || rest.starts_with('&');
    let right = words.next()? == status.to_string();
    let words: Vec<String> = words.map(str::to_owned).collect();
    if ours && right { words.try_into().ok() } else { None }
}
