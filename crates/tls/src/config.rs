//! nginx's TLS settings as plain structs, and what they come to in rustls.
//!
//! A setting that rustls cannot follow does not keep a server from starting: [`Built::warnings`] tells in a line each what is
//! done instead. An error is what nginx would refuse too, in its words.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as provider};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
pub use rustls::{ClientConfig, ServerConfig};
use rustls::{SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion};

pub mod certificates;
pub(crate) mod ciphers;
mod commands;
pub mod sessions;
pub mod verify;

use certificates::{Certificates, Resolver};
use ciphers::Selection;
use sessions::{Store, StoreView, TicketKeys, Ticketer};
use verify::{Clients, Servers, Trust};

/// What front and upstream have in common. The texts are as written in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Common {
    /// Words of `ssl_protocols` (`TLSv1.2`, `TLSv1.3`, and older ones).
    pub protocols: Vec<String>,
    /// `ssl_ciphers`: a cipher string of OpenSSL's, for TLS 1.2.
    pub ciphers: String,
    /// `ssl_ecdh_curve`: a list of groups or `auto`.
    pub curves: String,
    /// `ssl_conf_command`: names and values, in order.
    pub commands: Vec<(String, String)>,
}

impl Default for Common {
    /// nginx's defaults.
    fn default() -> Common {
        Common {
            protocols: vec!["TLSv1.2".to_owned(), "TLSv1.3".to_owned()],
            ciphers: "HIGH:!aNULL:!MD5".to_owned(),
            curves: "auto".to_owned(),
            commands: Vec::new(),
        }
    }
}

/// A server's settings.
#[derive(Debug, Clone)]
pub struct Server {
    /// Protocols, ciphers, groups.
    pub common: Common,
    /// `ssl_prefer_server_ciphers`.
    pub prefer_server_ciphers: bool,
    /// Certificates and keys.
    pub certificates: Arc<Certificates>,
    /// `ssl_session_cache shared:...`; nothing is `none` or `off`.
    pub sessions: Option<Arc<Store>>,
    /// `ssl_session_tickets`, `ssl_session_ticket_key`; nothing is `off`.
    pub tickets: Option<Arc<TicketKeys>>,
    /// `ssl_session_timeout`.
    pub session_timeout: Duration,
    /// Protocols that ALPN may choose, the preferred first.
    pub alpn: Vec<Vec<u8>>,
    /// `ssl_early_data`. Then TLS 1.3 sessions are kept in a store, not in tickets: each can be taken up once, which is what
    /// keeps early data from being replayed.
    pub early_data: bool,
    /// `ssl_verify_client` and what belongs to it.
    pub clients: Option<Arc<Clients>>,
    /// `ssl_buffer_size`: plain bytes in a record at most.
    pub record_bytes_max: usize,
}

impl Server {
    /// Settings with nginx's defaults.
    pub fn new(certificates: Arc<Certificates>) -> Server {
        Server {
            common: Common::default(),
            prefer_server_ciphers: false,
            certificates,
            sessions: None,
            tickets: None,
            session_timeout: Duration::from_secs(300),
            alpn: Vec::new(),
            early_data: false,
            clients: None,
            record_bytes_max: RECORD_BYTES_MAX,
        }
    }
}

/// Settings towards an upstream.
#[derive(Debug, Default)]
pub struct Client {
    /// Protocols, ciphers, groups.
    pub common: Common,
    /// `proxy_ssl_certificate` and its key.
    pub certificate: Option<Arc<CertifiedKey>>,
    /// `proxy_ssl_verify`: whom to trust; nothing verifies nothing.
    pub trust: Option<Trust>,
    /// `proxy_ssl_server_name`: whether the name goes into the ClientHello.
    pub send_name: bool,
    /// `proxy_ssl_session_reuse`.
    pub reuse_sessions: bool,
    /// Protocols offered by ALPN.
    pub alpn: Vec<Vec<u8>>,
}

/// A configuration and what had to be done differently, a line each without the directive's place.
#[derive(Debug)]
pub struct Built<T> {
    /// For all connections with these settings.
    pub config: Arc<T>,
    /// For the person who wrote them.
    pub warnings: Vec<String>,
}

/// The most a record holds (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// What rustls counts to a record beside its text.
const RECORD_HEADER_BYTES: usize = 5;

/// Early data a client may send, in bytes. OpenSSL's default.
const EARLY_BYTES_MAX: u32 = 1 << 14;

/// Sessions a server remembers by itself when there is no cache but early data: about a thousand.
const OWN_SESSIONS_BYTES: usize = 1 << 20;

/// What a server needs. The error is nginx's words for settings it refuses.
pub fn server(settings: &Server) -> Result<Built<ServerConfig>, String> {
    let mut agreed = Agreed::new(&settings.common)?;
    let builder = ServerConfig::builder_with_provider(agreed.provider())
        .with_protocol_versions(&agreed.versions)
        .map_err(|error| error.to_string())?;
    let builder = match &settings.clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::new(verify::Handshake(clients.clone()))),
        None => builder.with_client_cert_verifier(Arc::new(NoClientAuth)),
    };
    let server_preference = settings.prefer_server_ciphers || agreed.commands.server_preference;
    let mut config = builder.with_cert_resolver(Arc::new(Resolver {
        certificates: settings.certificates.clone(),
        suites: agreed.suites.iter().map(SupportedCipherSuite::suite).collect(),
        tls13: agreed.versions.contains(&&TLS13),
        server_preference,
    }));
    config.ignore_client_order = server_preference;
    config.alpn_protocols = settings.alpn.clone();
    config.max_fragment_size = fragment_bytes(settings.record_bytes_max);
    resumption(settings, &agreed, &mut config);
    if settings.early_data {
        config.max_early_data_size = EARLY_BYTES_MAX;
        config.send_half_rtt_data = true;
    }
    Ok(Built { config: Arc::new(config), warnings: std::mem::take(&mut agreed.warnings) })
}

/// Sessions for a server that takes early data and has no cache: settings that are built more than once need one for all.
pub fn own_sessions() -> Arc<Store> {
    Arc::new(Store::new(OWN_SESSIONS_BYTES))
}

fn resumption(settings: &Server, agreed: &Agreed, config: &mut ServerConfig) {
    let (context, timeout) = (context(settings), settings.session_timeout);
    let own = || settings.early_data.then(own_sessions);
    config.session_storage = match settings.sessions.clone().or_else(own) {
        Some(store) => Arc::new(StoreView { store, context, timeout }),
        None => Arc::new(NoServerSessionStorage {}),
    };
    let tickets = settings.tickets.as_ref().filter(|_| !settings.early_data && agreed.commands.tickets);
    match tickets {
        Some(keys) => config.ticketer = Arc::new(Ticketer { keys: keys.clone(), context, timeout }),
        // Without a place to keep them, two sessions a handshake would be made for nothing.
        None if !config.session_storage.can_cache() => config.send_tls13_tickets = 0,
        None => {}
    }
}

/// What towards an upstream is needed. The error is nginx's words for settings it refuses.
pub fn client(settings: Client) -> Result<Built<ClientConfig>, String> {
    let agreed = Agreed::new(&settings.common)?;
    let provider = agreed.provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&agreed.versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Servers { trust: settings.trust, algorithms }));
    let mut config = match settings.certificate {
        Some(pair) => builder.with_client_cert_resolver(Arc::new(OwnCertificate(pair))),
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = settings.send_name;
    config.alpn_protocols = settings.alpn;
    if !settings.reuse_sessions {
        config.resumption = Resumption::disabled();
    }
    Ok(Built { config: Arc::new(config), warnings: agreed.warnings })
}

/// Shows a server the one certificate there is, whatever authorities it names, as OpenSSL does.
#[derive(Debug)]
struct OwnCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).map(|_| self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Protocols, suites and groups that are left when OpenSSL's words have met what rustls has.
struct Agreed {
    versions: Vec<&'static SupportedProtocolVersion>,
    suites: Vec<SupportedCipherSuite>,
    groups: Vec<&'static dyn SupportedKxGroup>,
    commands: commands::Commands,
    warnings: Vec<String>,
}

impl Agreed {
    fn new(common: &Common) -> Result<Agreed, String> {
        let mut warnings = Vec::new();
        let commands = commands::Commands::new(&common.commands, &mut warnings)?;
        let versions = versions(&common.protocols, &commands, &mut warnings);
        let suites = suites(common, &commands, &mut warnings)?;
        let groups = groups(common, &commands, &mut warnings)?;
        Ok(Agreed { versions, suites, groups, commands, warnings })
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        let cipher_suites = self.suites.clone();
        Arc::new(CryptoProvider {
            cipher_suites,
            kx_groups: self.groups.clone(),
            ..provider::default_provider()
        })
    }
}

fn versions(
    protocols: &[String],
    commands: &commands::Commands,
    warnings: &mut Vec<String>,
) -> Vec<&'static SupportedProtocolVersion> {
    let (old, known): (Vec<&String>, Vec<&String>) =
        protocols.iter().partition(|word| !matches!(word.as_str(), "TLSv1.2" | "TLSv1.3"));
    let asked = |name: &str, number| known.iter().any(|word| *word == name) && commands.allows(number);
    let mut versions = Vec::new();
    if asked("TLSv1.2", 12) {
        versions.push(&TLS12);
    }
    if asked("TLSv1.3", 13) {
        versions.push(&TLS13);
    }
    if !old.is_empty() {
        let old = old.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", ");
        warnings.push(format!("protocols older than TLSv1.2 are not supported and left out: {old}"));
    }
    if versions.is_empty() {
        warnings.push("no supported protocol is left, TLSv1.2 is used".to_owned());
        versions.push(&TLS12);
    }
    versions
}

fn suites(
    common: &Common,
    commands: &commands::Commands,
    warnings: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, String> {
    let text = commands.ciphers.as_ref().unwrap_or(&common.ciphers);
    let old = ciphers::cipher_string(text).ok_or_else(|| {
        format!(
            "SSL_CTX_set_cipher_list(\"{text}\") failed (SSL: error:0A0000B9:SSL routines::no cipher match)"
        )
    })?;
    let new = commands.ciphersuites.as_deref().unwrap_or(ciphers::CIPHERSUITES);
    let new = ciphers::ciphersuites(new).ok_or_else(|| {
        format!("SSL_CONF_cmd(\"Ciphersuites\", \"{new}\") failed (SSL: error:0A0000B9:SSL routines::no cipher match \
             error:0A000180:SSL routines::bad value:cmd=Ciphersuites, value={new})")
    })?;
    let default = ciphers::cipher_string("HIGH").map_or(Vec::new(), |all| all.chosen);
    let mut numbers = taken(
        "ciphers",
        new,
        ciphers::ciphersuites(ciphers::CIPHERSUITES).map_or(Vec::new(), |all| all.chosen),
        warnings,
    );
    numbers.extend(taken("ciphers", old, default, warnings));
    Ok(numbers.into_iter().filter_map(ciphers::suite).collect())
}

fn groups(
    common: &Common,
    commands: &commands::Commands,
    warnings: &mut Vec<String>,
) -> Result<Vec<&'static dyn SupportedKxGroup>, String> {
    let text = commands.groups.as_ref().unwrap_or(&common.curves);
    let selection = ciphers::groups(text).map_err(|name| {
        format!(
            "SSL_CTX_set1_curves_list(\"{text}\") failed (SSL: error:0A080106:SSL routines::passed invalid \
                 argument:group '{name}' cannot be set)"
        )
    })?;
    let auto = ciphers::groups("auto").map_or(Vec::new(), |auto| auto.chosen);
    Ok(taken("curves", selection, auto, warnings))
}

/// What was chosen, or all there is if nothing is left of it; and a line about what was left out.
fn taken<T>(what: &str, selection: Selection<T>, all: Vec<T>, warnings: &mut Vec<String>) -> Vec<T> {
    if !selection.left_out.is_empty() {
        warnings
            .push(format!("{what} that are not supported are left out: {}", selection.left_out.join(", ")));
    }
    match selection.chosen.is_empty() {
        true => {
            warnings.push(format!("none of the {what} is supported, the defaults are used"));
            all
        }
        false => selection.chosen,
    }
}

fn fragment_bytes(record_bytes_max: usize) -> Option<usize> {
    // rustls wants 32 bytes at least.
    (record_bytes_max < RECORD_BYTES_MAX).then(|| record_bytes_max.max(64) + RECORD_HEADER_BYTES)
}

/// What sessions of this server must have in common: its certificates, and whom it trusts.
fn context(settings: &Server) -> sessions::Context {
    let mut digest = digest::Context::new(&digest::SHA256);
    let mut add = |der: &CertificateDer<'_>| {
        digest.update(&(der.len() as u64).to_be_bytes());
        digest.update(der);
    };
    settings.certificates.pairs().filter_map(|pair| pair.cert.first().cloned()).for_each(|leaf| add(&leaf));
    if let Some(clients) = &settings.clients {
        clients.trust.certificates().iter().for_each(&mut add);
        digest.update(&[1 + clients.ask as u8]);
    }
    digest.finish().as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests;
