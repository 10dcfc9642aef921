//! `proxy_ssl_...`: TLS towards upstreams. Settings become one rustls configuration a load, shared by all locations with the
//! same ones; each peer has its own memory of sessions, as in nginx.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use http::config::{Install, LateName, Line, Problem, World, shown};
use http::{Request, Template};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tls::cache::{Cache, Names};
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
    pub(crate) certificate: Option<Template>,
    pub(crate) key: Option<Template>,
    pub(crate) cache: Option<Option<Arc<Cache>>>,
    pub(crate) passwords: Option<Box<str>>,
    pub(crate) reuse: Option<bool>,
    pub(crate) protocols: Option<Vec<String>>,
    pub(crate) ciphers: Option<String>,
    pub(crate) commands: Vec<(String, String)>,
}

/// What holds in a block and may differ from request to request; files by their full names where nothing varies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    name: Option<Template>,
    certificate: Option<Template>,
    key: Option<Template>,
    /// `proxy_ssl_certificate_cache`
    cache: Option<Arc<Cache>>,
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
            // Put in when all of a location is known.
            certificate: None,
            key: None,
            passwords: self.passwords.or_else(|| outer.passwords.clone()),
            reuse: self.reuse.unwrap_or(outer.reuse),
            common,
        }
    }

    /// The texts that hold in the block, given those around it.
    pub(crate) fn merge_texts(&mut self, outer: &Texts) -> Texts {
        Texts {
            name: self.name.take().or_else(|| outer.name.clone()),
            certificate: self.certificate.take().or_else(|| outer.certificate.clone()),
            key: self.key.take().or_else(|| outer.key.clone()),
            cache: self.cache.take().unwrap_or_else(|| outer.cache.clone()),
        }
    }

    /// Whether the block wrote nothing but perhaps texts.
    pub(crate) fn is_unset(&self) -> bool {
        let Raw { verify, depth, trusted, crl, server_name, passwords, reuse, protocols, .. } = self;
        let Raw { ciphers, commands, .. } = self;
        let flags = [verify, server_name, reuse].iter().all(|flag| flag.is_none());
        let files = [trusted, crl, passwords].iter().all(|file| file.is_none());
        flags && files && depth.is_none() && protocols.is_none() && ciphers.is_none() && commands.is_empty()
    }
}

/// A file's full name; empty stays empty, which takes back what is inherited.
pub(crate) fn file(slot: &mut Option<Box<str>>, line: &mut Line<'_>) -> Result<(), Problem> {
    let name = full_name(line);
    line.once(slot, name)
}

/// A certificate or key: a file's name, or `data:` and the text itself. With variables it is made for each handshake.
pub(crate) fn pem(slot: &mut Option<Template>, line: &mut Line<'_>) -> Result<(), Problem> {
    let template = line.template(0)?;
    let text = line.text(0);
    if is_foreign(&text) {
        let why = format!("\"{text}\" is not supported in \"{}\", only files and data: are", line.name());
        return Err(Problem::new(why).at(line.word(0)));
    }
    let name = match template.varies() || files::inline(&text).is_some() {
        true => template,
        false => Template::literal(full_name(line).as_bytes()),
    };
    line.once(slot, name)
}

/// A key that is in no file.
fn is_foreign(name: &str) -> bool {
    name.starts_with("engine:") || name.starts_with("store:")
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
    let words = line.mask(0, &NAMES)?;
    let chosen = NAMES.iter().enumerate().filter(|(at, _)| words & 1 << at != 0);
    slot.get_or_insert_default().extend(chosen.map(|(_, name)| (*name).to_owned()));
    Ok(())
}

/// What connections of one location are made with.
#[derive(Debug)]
pub(crate) struct Secure {
    base: Configs,
    reuse: bool,
    /// A certificate that is read for each handshake.
    varying: Option<Varying>,
    /// Of the settings and all that was read for them, made with a key of this process.
    hash: u64,
    /// Each peer's, by its group's name and its address, with its own sessions.
    peers: Mutex<HashMap<(Arc<str>, PeerAddr), Configs>>,
}

/// `proxy_ssl_certificate` and its key with variables in them.
#[derive(Debug)]
struct Varying {
    name: LateName,
    passwords: Vec<Vec<u8>>,
    cache: Option<Arc<Cache>>,
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

/// What these settings come to: read and built once a load, but for those with variables, which are each location's.
pub(crate) fn secure(
    settings: &Settings,
    texts: &Texts,
    span: conf::Span,
    install: &mut Install<'_>,
) -> Option<Arc<Secure>> {
    match secure_or(settings, texts, install) {
        Ok((secure, warnings)) => {
            for warning in warnings {
                install.warn(span, format!("TLS towards upstreams: {warning}"));
            }
            Some(secure)
        }
        Err(message) => {
            let help = files::help(&message);
            install.error(span, help.into_iter().fold(Problem::new(message).placeless(), Problem::note));
            None
        }
    }
}

fn secure_or(
    settings: &Settings,
    texts: &Texts,
    install: &mut Install<'_>,
) -> Result<(Arc<Secure>, Vec<String>), String> {
    let (mut settings, mut varying) = (settings.clone(), None);
    let literal = |template: &Template| {
        template.as_literal().map_or("with variables".into(), |text| String::from_utf8_lossy(text).into())
    };
    match (&texts.certificate, &texts.key) {
        (None, _) => {}
        (Some(certificate), Some(key)) if certificate.varies() || key.varies() => {
            let passwords = passwords(&settings, install.world())?;
            let dir = &install.prefixes().conf;
            let name = LateName::new(certificate.clone(), key.clone(), dir, install.world());
            varying = Some(Varying { name, passwords, cache: texts.cache.clone() });
        }
        (Some(certificate), key) => {
            settings.certificate = Some(literal(certificate));
            settings.key = key.as_ref().map(literal);
        }
    }
    if varying.is_none()
        && let Some(known) = install.registry().of::<Known>().0.get(&settings)
    {
        return Ok((known.clone(), Vec::new()));
    }
    let (mut secure, warnings) = build(&settings, install.world())?;
    let shared = varying.is_none();
    secure.varying = varying;
    let secure = Arc::new(secure);
    if shared {
        install.registry().of::<Known>().0.insert(settings, secure.clone());
    }
    Ok((secure, warnings))
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
        varying: None,
        hash: reader.hasher.finish(),
        peers: Mutex::default(),
    };
    Ok((secure, warnings))
}

fn pair(settings: &Settings, reader: &mut Reader<'_>) -> Result<Option<CertifiedKey>, String> {
    let Some(name) = settings.certificate.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
    let Some(key_name) = settings.key.as_deref() else {
        return Err(format!("no \"proxy_ssl_certificate_key\" is defined for certificate \"{name}\""));
    };
    let passwords = passwords(settings, reader.world)?;
    parse_pair(name, key_name, &passwords, |name, kind| reader.read(name, kind)).map(Some)
}

fn passwords(settings: &Settings, world: &dyn World) -> Result<Vec<Vec<u8>>, String> {
    let Some(name) = settings.passwords.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(Vec::new());
    };
    let failed = |error| format!("open() \"{name}\" failed ({})", sys::errno::text(&error));
    Ok(files::passwords(&world.read(Path::new(name)).map_err(failed)?))
}

fn parse_pair(
    name: &str,
    key_name: &str,
    passwords: &[Vec<u8>],
    mut read: impl FnMut(&str, Kind) -> Result<Vec<u8>, String>,
) -> Result<CertifiedKey, String> {
    let words = |error: files::FileError| error.to_string();
    let chain = files::certificates(shown(name), &read(name, Kind::Certificate)?).map_err(words)?;
    let key = files::key(shown(key_name), &read(key_name, Kind::Key)?, passwords).map_err(words)?;
    files::pair(shown(name), chain, shown(key_name), &key).map_err(words)
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
    fn configs(&self, group: &Arc<str>, peer: &PeerAddr) -> Configs {
        if !self.reuse {
            return self.base.clone();
        }
        let key = (group.clone(), peer.clone());
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(configs) = peers.get(&key) {
            return configs.clone();
        }
        if peers.len() >= PEERS_MAX {
            peers.clear();
        }
        let mut config = ClientConfig::clone(&self.base.named);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let configs = Configs::new(config);
        peers.insert(key, configs.clone());
        configs
    }
}

/// TLS for one request.
#[derive(Clone, Debug)]
pub(crate) struct Towards {
    secure: Arc<Secure>,
    group: Arc<str>,
    /// Without a port.
    name: Arc<str>,
    /// A certificate and its key, where they are this request's.
    pair: Option<Names>,
}

/// Why TLS could not begin.
#[derive(Debug)]
pub(crate) enum Unbegun {
    /// The certificate of this request is of no use: 500, as on nginx.
    Certificate(String),
    /// TLS itself.
    Tls(TlsError),
}

impl Towards {
    /// What the configuration says for this request.
    pub(crate) fn new(
        secure: &Arc<Secure>,
        texts: &Texts,
        group: &Arc<str>,
        target: &Target,
        request: &mut Request,
    ) -> Towards {
        // `proxy_ssl_name` or the URL's host.
        let name = match &texts.name {
            Some(template) => String::from_utf8_lossy(&template.value(request)).into_owned(),
            None => target.host.to_string(),
        };
        let names = secure.varying.as_ref().map(|varying| varying.name.names(request));
        // An empty name is no certificate.
        let pair = names.filter(|(certificate, _)| !certificate.is_empty());
        Towards { secure: secure.clone(), group: group.clone(), name: without_port(&name).into(), pair }
    }

    /// What a pool must tell connections apart by; never 0, which is plain text.
    pub(crate) fn key(&self) -> u64 {
        KEYED.hash_one((self.secure.hash, &self.name, &self.pair)) | 1
    }

    /// A connection to `peer`. Waits where a certificate has to be read.
    pub(crate) async fn begin(&self, peer: &PeerAddr) -> Result<ClientEnd, Unbegun> {
        let mut configs = self.secure.configs(&self.group, peer);
        if let (Some(varying), Some(pair)) = (&self.secure.varying, &self.pair) {
            // In a box: few requests need room for it.
            let loading = Box::pin(varying.name.load(pair, &varying.passwords, varying.cache.as_deref()));
            let pair = loading.await.map_err(Unbegun::Certificate)?;
            let mut config = ClientConfig::clone(&configs.named);
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&pair)));
            configs = Configs::new(config);
        }
        let name = self.name.trim_matches(['[', ']']);
        let end = ClientEnd::new(configs.named, name).or_else(|_| {
            // nginx verifies what is no host name like any text, and nothing matches it.
            ClientEnd::new(configs.nameless, &format!("x{:016x}.invalid", self.key()))
        });
        end.map_err(Unbegun::Tls)
    }
}

/// Sessions remembered for a peer, of all names it is asked for.
const SESSIONS: usize = 64;

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
