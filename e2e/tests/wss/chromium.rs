//! A real browser on a page of the site: it trusts the site's authority, and shows the site the certificate a policy names.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tidegate_e2e::browser::Browser;
use tidegate_e2e::programs::wait_until;

use super::site::Site;
use super::visit::Client;

/// Headless Chromium.
pub(crate) struct Chromium(Browser);

impl Chromium {
    /// Opens the page of the listener that asks for certificates. A WebSocket never asks the user for one, it only shows what
    /// the page it belongs to was asked for: so this is the page that has to be open.
    pub(crate) fn on(site: &Site) -> Chromium {
        let home = site.proxy.place.dir.path().join("home");
        store_certificates(site, &home.join(".pki/nssdb"));
        let page = format!("https://localhost:{}/", site.proxy.place.port("MUTUAL").number());
        let rule = json!({ "pattern": page.trim_end_matches('/'), "filter": {} }).to_string();
        let policy = json!({ "AutoSelectCertificateForUrls": [rule] }).to_string();
        site.proxy.place.dir.write("policy.json", policy.as_bytes());
        let mut chromium = within_its_own_etc(&site.file("policy.json"));
        chromium.env("HOME", &home);
        let mut browser = Browser::open_with(chromium, &page, &site.proxy.place.dir);
        wait_until("the page", || browser.evaluate("document.title") == "site");
        Chromium(browser)
    }
}

/// Policies are read from a directory of the machine's: it gets one that nobody else sees.
fn within_its_own_etc(policy: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount");
    if !rustix::process::getuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let script = "mount -t tmpfs none /etc/chromium && mkdir -p /etc/chromium/policies/managed &&
                  cp \"$0\" /etc/chromium/policies/managed/ && exec chromium \"$@\"";
    unshare.args(["sh", "-c", script, policy]);
    unshare
}

/// The authorities to trust and the pair to show, as the browser keeps them.
fn store_certificates(site: &Site, store: &Path) {
    fs::create_dir_all(store).expect("our own directory");
    let database = format!("sql:{}", store.display());
    let nss = |tool: &str, more: &[&str]| run(Command::new(tool).args(["-d", &database]).args(more));
    nss("certutil", &["-N", "--empty-password"]);
    // It takes one certificate at a time.
    let authorities = fs::read_to_string(site.file("ca.crt")).expect("a file");
    for (number, authority) in authorities.split_inclusive("-----END CERTIFICATE-----\n").enumerate() {
        let name = format!("authority{number}.crt");
        site.proxy.place.dir.write(&name, authority.as_bytes());
        nss("certutil", &["-A", "-t", "C,,", "-n", &name, "-i", &site.file(&name)]);
    }
    let mut pack = Command::new("openssl");
    pack.args([
        "pkcs12",
        "-export",
        "-passout",
        "pass:",
        "-name",
        "visitor",
        "-out",
        &site.file("client.p12"),
    ]);
    run(pack.args(["-in", &site.file("client.crt"), "-inkey", &site.file("client.key")]));
    nss("pk12util", &["-i", &site.file("client.p12"), "-W", ""]);
}

fn run(command: &mut Command) {
    let output = command.output().expect("`cargo xtask install` makes the tools");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

impl Client for Chromium {
    fn ask(&mut self, question: &Value) -> Value {
        let visit = VISIT.replace("@URL@", &question["url"].to_string());
        json!({ "status": if self.0.evaluate(&visit) == "closed 1000" { 101 } else { 0 } })
    }
}

/// A tunnel, a few messages each way, and the end.
const VISIT: &str = "new Promise(done => {
    const socket = new WebSocket(@URL@);
    socket.binaryType = 'arraybuffer';
    const messages = ['hello', '', 'x'.repeat(100000), new Uint8Array(500000).buffer];
    const next = () => messages.length ? socket.send(messages[0]) : socket.close(1000);
    socket.onopen = next;
    socket.onmessage = event => {
        const sent = messages.shift();
        const same = event.data.byteLength ? event.data.byteLength === sent.byteLength : event.data === sent;
        same ? next() : done('not what was sent');
    };
    socket.onclose = event => done(`closed ${event.code}`);
    setTimeout(() => done('too slow'), 30000);
})";
