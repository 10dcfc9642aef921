//! What a visitor does, and what must come of it.

use serde_json::{Value, json};
use tidegate_e2e::certificates::Kind as Key;

use super::site::{PORTS, Site};

/// A client, whatever it is made of.
pub(crate) trait Client {
    /// Opens a tunnel and says the bytes back and forth. The question has `url`, `ca` and perhaps `certificate`, `key`, `rsa`,
    /// `resume`, `transports`; the answer `status`, and perhaps `name` and `transport`.
    fn ask(&mut self, question: &Value) -> Value;

    /// Whether `rsa` limits what it says of signatures, which TLS 1.3 needs, and not just its ciphers.
    fn names_signatures(&self) -> bool {
        false
    }
}

/// How a visit is made.
#[derive(Clone, Copy, Default)]
struct Visit {
    certificate: bool,
    rsa: bool,
    resume: bool,
}

const RESUMED: Visit = Visit { certificate: false, rsa: false, resume: true };

/// Everything.
pub(crate) fn all(site: &mut Site, client: &mut dyn Client) {
    within_a_configuration(site, client);
    over_reloads(site, client);
}

/// What needs no reload.
pub(crate) fn within_a_configuration(site: &mut Site, client: &mut dyn Client) {
    let protocols = ["TLSv1.3", "TLSv1.2", "TLSv1.2"];
    for (port, protocol) in PORTS.into_iter().zip(protocols) {
        let first = tunnel(site, client, port, Visit::default());
        assert_eq!((first[0].as_str(), first[2].as_str()), (protocol, "."), "{port}");
        let second = tunnel(site, client, port, RESUMED);
        assert_eq!((second[0].as_str(), second[2].as_str()), (protocol, "r"), "{port}");
    }
    // A client that takes RSA alone is shown that certificate.
    for port in ["TICKETS", "IDS"] {
        let line = tunnel(site, client, port, Visit { rsa: true, ..Visit::default() });
        assert!(line[1].starts_with("ECDHE-RSA-"), "{line:?}");
    }
    if client.names_signatures() {
        tunnel(site, client, "TLS13", Visit { rsa: true, ..Visit::default() });
    }
    let (said, path) = visit(site, client, "MUTUAL", Visit::default());
    assert_eq!(said["status"], 400, "{said}");
    site.logged(&path, 400);
    let own = Visit { certificate: true, ..Visit::default() };
    for (resume, reused) in [(false, "."), (true, "r")] {
        let line = tunnel(site, client, "MUTUAL", Visit { resume, ..own });
        assert_eq!((line[2].as_str(), line[3].as_str()), (reused, "SUCCESS"), "{line:?}");
    }
}

/// A session began under certificates that are gone: the handshake is a whole one, and shows the new ones.
pub(crate) fn over_reloads(site: &mut Site, client: &mut dyn Client) {
    for port in PORTS {
        tunnel(site, client, port, Visit::default());
        assert_eq!(tunnel(site, client, port, RESUMED)[2], "r", "{port}");
        site.renew();
        assert_eq!(tunnel(site, client, port, RESUMED)[2], ".", "{port} after the reload");
        assert_eq!(tunnel(site, client, port, RESUMED)[2], "r", "{port} once more");
    }
}

/// Whoever was asked for a certificate on the way to the page shows it for the tunnels of the page as well.
pub(crate) fn from_a_page(site: &mut Site, client: &mut dyn Client) {
    for _ in 0..2 {
        let line = tunnel(site, client, "MUTUAL", RESUMED);
        assert_eq!((line[2].as_str(), line[3].as_str()), ("r", "SUCCESS"), "{line:?}");
    }
}

/// Servers that have nothing but an RSA key.
pub(crate) fn with_rsa_alone(site: &mut Site, client: &mut dyn Client) {
    for (port, protocol) in [("RSA13", "TLSv1.3"), ("RSA12", "TLSv1.2")] {
        let first = tunnel(site, client, port, Visit { rsa: true, ..Visit::default() });
        assert_eq!((first[0].as_str(), first[2].as_str()), (protocol, "."), "{first:?}");
        assert!(protocol == "TLSv1.3" || first[1].starts_with("ECDHE-RSA-"), "{first:?}");
        assert_eq!(tunnel(site, client, port, Visit { rsa: true, ..RESUMED })[2], "r", "{port}");
    }
}

/// Requests first, and from them to a tunnel.
pub(crate) fn upgrades(site: &mut Site, client: &mut dyn Client) {
    let (url, path) = site.address("TLS13");
    let transports = ["polling", "websocket"];
    let said = client.ask(&json!({ "url": url, "ca": site.file("ca.crt"), "transports": transports }));
    assert_eq!((&said["status"], &said["transport"]), (&json!(101), &json!("websocket")), "{said}");
    site.logged(&path, 200);
    site.logged(&path, 101);
}

/// A visit that ends in a tunnel, and its line.
fn tunnel(site: &mut Site, client: &mut dyn Client, port: &str, how: Visit) -> [String; 4] {
    let (said, path) = visit(site, client, port, how);
    assert_eq!(said["status"], 101, "{port}: {said}\n{}", site.proxy.logs());
    let line = site.logged(&path, 101);
    if let Some(name) = said["name"].as_str() {
        // With TLS 1.2 the cipher has the kind in its name, and the client's order of ciphers decides.
        let rsa = how.rsa || line[1].contains("-RSA-");
        assert_eq!(name, site.shows(if rsa { Key::Rsa } else { Key::Ecdsa }), "{port}: {line:?}");
    }
    line
}

fn visit(site: &mut Site, client: &mut dyn Client, port: &str, how: Visit) -> (Value, String) {
    let (url, path) = site.address(port);
    let mut question = json!({ "url": url, "ca": site.file("ca.crt"), "rsa": how.rsa, "resume": how.resume });
    if how.certificate {
        question["certificate"] = site.file("client.crt").into();
        question["key"] = site.file("client.key").into();
    }
    (client.ask(&question), path)
}
