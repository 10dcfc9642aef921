//! `proxy_ssl_...`: TLS towards upstreams. Settings become one rustls configuration a load, shared by all locations with the
//! same ones; each peer has its own memory of sessions, as in nginx.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use http::config::{Install, Line, Problem, World};
use http::{Request, Template};
use rustls::ClientConfig;
use rustls::client::Resumption;
use tls::config::verify::Trust;
use tls::config::{Client, Common, client};
use tls::end::ClientEnd;
use tls::files::{self, Kind};
use upstream::PeerAddr;
use wire::tls::TlsError;

use crate::proxy::pass::Target;

/// What one block wrote.
#[derive(Default)]
pub(crate) struct Raw {
    pub(crate) verify: Option<bool>,
    pub(crate) depth: Option<u64>,
    pub(crate) trusted: Option<Box<str>>,
    pub(crate) crl: Option<Box<str>>,
    pub(crate) name: Option<Template>,
    pub(crate) server_name: Option<bool>,
    pub(crate) certificate: Option<Box<str>>,
    pub(crate) key: Option<Box<str>>,
    pub(crate) passwords: Option<Box<str>>,
    pub(crate) reuse: Option<bool>,
    pub(crate) protocols: Option<Vec<String>>,
    pub(crate) ciphers: Option<String>,
    pub(crate) commands: Vec<(String, String)>,
}

/// What holds in a block; files by their full names. Two that are equal share sessions and connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Settings {
    verify: bool,
    depth: u64,
    trusted: Option<Box<str>>,
    crl: Option<Box<str>>,
    server_name: bool,
    certificate: Option<Box<str>>,
    key: Option<Box<str>>,
    passwords: Option<Box<str>>,
    reuse: bool,
    common: Common,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            verify: false,
            depth: 1,
            trusted: None,
            crl: None,
            server_name: false,
            certificate: None,
            key: None,
            passwords: None,
            reuse: true,
            common: Common::default(),
        }
    }
}

impl Raw {
    /// What holds in the block, given what holds around it.
    pub(crate) fn merge(self, outer: &Settings) -> Settings {
        let common = Common {
            protocols: self.protocols.unwrap_or_else(|| outer.common.protocols.clone()),
            ciphers: self.ciphers.unwrap_or_else(|| outer.common.ciphers.clone()),
            curves: outer.common.curves.clone(),
            commands: match self.commands.is_empty() {
                true => outer.common.commands.clone(),
                false => self.commands,
            },
        };
        Settings {
            verify: self.verify.unwrap_or(outer.verify),
            depth: self.depth.unwrap_or(outer.depth),
            trusted: self.trusted.or_else(|| outer.trusted.clone()),
            crl: self.crl.or_else(|| outer.crl.clone()),
            server_name: self.server_name.unwrap_or(outer.server_name),
            certificate: self.certificate.or_else(|| outer.certificate.clone()),
            key: self.key.or_else(|| outer.key.clone()),
            passwords: self.passwords.or_else(|| outer.passwords.clone()),
            reuse: self.reuse.unwrap_or(outer.reuse),
            common,
        }
    }

    /// Whether the block wrote nothing but perhaps a name.
    pub(crate) fn is_unset(&self) -> bool {
        let Raw { verify, depth, trusted, crl, name: _, server_name, certificate, key, .. } = self;
        let Raw { passwords, reuse, protocols, ciphers, commands, .. } = self;
        let flags = [verify, server_name, reuse].iter().all(|flag| flag.is_none());
        let files = [trusted, crl, certificate, key, passwords].iter().all(|file| file.is_none());
        flags && files && depth.is_none() && protocols.is_none() && ciphers.is_none() && commands.is_empty()
    }
}

/// A file's full name; empty stays empty, which takes back what is inherited.
pub(crate) fn file(slot: &mut Option<Box<str>>, line: &mut Line<'_>) -> Result<(), Problem> {
    let name = full_name(line);
    line.once(slot, name)
}

/// A certificate or key: a file's name, or `data:` and the text itself.
pub(crate) fn pem(slot: &mut Option<Box<str>>, line: &mut Line<'_>) -> Result<(), Problem> {
    if line.template(0)?.varies() {
        let why = format!("variables in \"{}\" are not supported yet: write a file's name", line.name());
        return Err(Problem::new(why).at(line.word(0)));
    }
    let text = line.text(0);
    if text.starts_with("engine:") || text.starts_with("store:") {
        let why = format!("\"{text}\" is not supported in \"{}\", only files and data: are", line.name());
        return Err(Problem::new(why).at(line.word(0)));
    }
    let name = match files::inline(&text) {
        Some(_) => text.into(),
        None => full_name(line),
    };
    line.once(slot, name)
}

fn full_name(line: &Line<'_>) -> Box<str> {
    match line.bytes(0).is_empty() {
        true => "".into(),
        false => line.conf_path(0).to_string_lossy().into(),
    }
}

/// `proxy_ssl_protocols`
pub(crate) fn protocols(slot: &mut Option<Vec<String>>, line: &mut Line<'_>) -> Result<(), Problem> {
    const NAMES: [&str; 6] = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
    let mut chosen = Vec::new();
    for index in 0..line.count() {
        chosen.push(NAMES[line.one_of(index, &NAMES)?].to_owned());
    }
    line.once(slot, chosen)
}

/// What connections of one location are made with.
#[derive(Debug)]
pub(crate) struct Secure {
    base: Configs,
    reuse: bool,
    /// Of the settings and all that was read for them, made with a key of this process.
    hash: u64,
    /// Each peer's, with its own sessions.
    peers: Mutex<HashMap<PeerAddr, Configs>>,
}

/// One that sends the server's name if the settings say so, and one that never does: for names that aren't host names.
#[derive(Clone, Debug)]
struct Configs {
    named: Arc<ClientConfig>,
    nameless: Arc<ClientConfig>,
}

/// Those of a configuration under construction.
#[derive(Default)]
struct Known(HashMap<Settings, Arc<Secure>>);

/// Peers whose sessions are remembered; names that vary may make any number of them.
const PEERS_MAX: usize = 256;

/// Keyed, so that nobody finds a name that hashes to another one's connections.
static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What these settings come to: read and built once a load.
pub(crate) fn secure(
    settings: &Settings,
    span: conf::Span,
    install: &mut Install<'_>,
) -> Option<Arc<Secure>> {
    if let Some(known) = install.registry().of::<Known>().0.get(settings) {
        return Some(known.clone());
    }
    match build(settings, install.world()) {
        Ok((secure, warnings)) => {
            for warning in warnings {
                install.warn(span, format!("TLS towards upstreams: {warning}"));
            }
            let secure = Arc::new(secure);
            install.registry().of::<Known>().0.insert(settings.clone(), secure.clone());
            Some(secure)
        }
        Err(message) => {
            install.error(span, Problem::new(message).placeless());
            None
        }
    }
}

/// Files as they are read, each into the hash.
struct Reader<'a> {
    world: &'a dyn World,
    hasher: std::hash::DefaultHasher,
}

impl Reader<'_> {
    fn read(&mut self, name: &str, kind: Kind) -> Result<Vec<u8>, String> {
        let bytes = match files::inline(name) {
            Some(text) => text.as_bytes().to_vec(),
            None => {
                let unreadable = |error| files::unreadable(kind, name, &error).to_string();
                self.world.read(Path::new(name)).map_err(unreadable)?
            }
        };
        bytes.hash(&mut self.hasher);
        Ok(bytes)
    }
}

fn build(settings: &Settings, world: &dyn World) -> Result<(Secure, Vec<String>), String> {
    let mut reader = Reader { world, hasher: KEYED.build_hasher() };
    settings.hash(&mut reader.hasher);
    let mut warnings = Vec::new();
    let certificate = pair(settings, &mut reader)?;
    let trust = match settings.verify {
        true => Some(trust(settings, &mut reader, &mut warnings)?),
        false => None,
    };
    let built = client(Client {
        common: settings.common.clone(),
        certificate: certificate.map(Arc::new),
        trust,
        send_name: settings.server_name,
        reuse_sessions: settings.reuse,
        alpn: Vec::new(),
    })?;
    warnings.extend(built.warnings);
    let secure = Secure {
        base: Configs::new(ClientConfig::clone(&built.config)),
        reuse: settings.reuse,
        hash: reader.hasher.finish(),
        peers: Mutex::default(),
    };
    Ok((secure, warnings))
}

fn pair(settings: &Settings, reader: &mut Reader<'_>) -> Result<Option<rustls::sign::CertifiedKey>, String> {
    let Some(name) = settings.certificate.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
    let Some(key_name) = settings.key.as_deref() else {
        return Err(format!("no \"proxy_ssl_certificate_key\" is defined for certificate \"{name}\""));
    };
    let passwords = match settings.passwords.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            let text = reader.world.read(Path::new(name));
            let failed = |error| format!("open() \"{name}\" failed {}", upstream::errno_text(&error));
            files::passwords(&text.map_err(failed)?)
        }
        None => Vec::new(),
    };
    let words = |error: files::FileError| error.to_string();
    let chain = files::certificates(name, &reader.read(name, Kind::Certificate)?).map_err(words)?;
    let key = files::key(key_name, &reader.read(key_name, Kind::Key)?, &passwords).map_err(words)?;
    files::pair(name, chain, key_name, &key).map(Some).map_err(words)
}

fn trust(settings: &Settings, reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Result<Trust, String> {
    let Some(name) = settings.trusted.as_deref().filter(|name| !name.is_empty()) else {
        return Err("no proxy_ssl_trusted_certificate for proxy_ssl_verify".to_owned());
    };
    let words = |error: files::FileError| error.to_string();
    let authorities = files::authorities(name, &reader.read(name, Kind::Trusted)?).map_err(words)?;
    let lists = match settings.crl.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => files::revocations(name, &reader.read(name, Kind::Crl)?).map_err(words)?,
        None => Vec::new(),
    };
    let depth = usize::try_from(settings.depth).unwrap_or(usize::MAX);
    let (trust, unused) = Trust::new(authorities, &lists, depth);
    warnings.extend(unused);
    Ok(trust)
}

impl Configs {
    fn new(config: ClientConfig) -> Configs {
        let named = Arc::new(config);
        let nameless = match named.enable_sni {
            true => {
                let mut nameless = ClientConfig::clone(&named);
                nameless.enable_sni = false;
                Arc::new(nameless)
            }
            false => named.clone(),
        };
        Configs { named, nameless }
    }
}

impl Secure {
    /// What a pool must tell connections apart by; never 0, which is plain text.
    pub(crate) fn key(&self, name: &str) -> u64 {
        KEYED.hash_one((self.hash, name)) | 1
    }

    /// A connection to `peer` that verifies and may ask for `name`.
    pub(crate) fn begin(&self, peer: &PeerAddr, name: &str) -> Result<ClientEnd, TlsError> {
        let configs = self.configs(peer);
        let name = name.trim_matches(['[', ']']);
        ClientEnd::new(configs.named, name).or_else(|_| {
            // nginx verifies what is no host name like any text, and nothing matches it.
            ClientEnd::new(configs.nameless, &format!("x{:016x}.invalid", self.key(name)))
        })
    }

    fn configs(&self, peer: &PeerAddr) -> Configs {
        if !self.reuse {
            return self.base.clone();
        }
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(configs) = peers.get(peer) {
            return configs.clone();
        }
        if peers.len() >= PEERS_MAX {
            peers.clear();
        }
        let mut config = ClientConfig::clone(&self.base.named);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let configs = Configs::new(config);
        peers.insert(peer.clone(), configs.clone());
        configs
    }
}

/// Sessions remembered for a peer, of all names it is asked for.
const SESSIONS: usize = 64;

/// The name a server is verified for and asked for: `proxy_ssl_name` or the URL's host, without a port.
pub(crate) fn name(written: Option<&Template>, target: &Target, request: &mut Request) -> Arc<str> {
    let name = match written {
        Some(template) => String::from_utf8_lossy(&template.value(request)).into_owned(),
        None => target.host.to_string(),
    };
    without_port(&name).into()
}

fn without_port(name: &str) -> &str {
    if let Some(end) = name.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return &name[..end + 2];
    }
    // An address of six groups that nobody put in brackets would lose all but the first.
    match name.parse::<IpAddr>() {
        Ok(_) => name,
        Err(_) => name.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_part_of_a_name() {
        let check = |name: &str, expected: &str| assert_eq!(without_port(name), expected);
        check("example.com", "example.com");
        check("example.com:8443", "example.com");
        check("[::1]:443", "[::1]");
        check("[::1]", "[::1]");
        check("::1", "::1");
        check("127.0.0.1:443", "127.0.0.1");
        check("", "");
        check(":1", "");
        check("[x", "[x");
    }
}
