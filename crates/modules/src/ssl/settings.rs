//! From what was written to what a handshake follows: files are read, and what cannot be is said in nginx's words.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use conf::Span;
use http::config::{AnyConf, ClientStatus, Context, Install, LateTls, Problem, ServerTls};
use rustls::pki_types::CertificateDer;
use tls::config::certificates::Certificates;
use tls::config::sessions::{Store, TicketKeys};
use tls::config::verify::{Ask, Clients, Trust};
use tls::config::{Common, Server};
use tls::files::{self, FileError, Kind};
use tls::ocsp::Question;

use super::stapling::{Responder, Stapler, Staplers};
use super::{Cache, Conf, Ocsp, Source, Verify, late, ocsp};

/// What a session takes in a store, about, for caches that count sessions.
const SESSION_BYTES: usize = 512;

/// Builds the TLS of a server that has a certificate or rejects handshakes.
pub(super) fn install(conf: &AnyConf, install: &mut Install<'_>) {
    let Some(conf) = conf.downcast_ref::<Conf>() else { return };
    let rejects = conf.reject == Some(true);
    let verifies = conf.verify.is_some_and(|verify| verify != Verify::Off);
    if install.place != Context::SERVER || conf.certificates.is_empty() && !rejects && !verifies {
        return;
    }
    let span = conf.certificates.first().map_or(Span::default(), |source| source.span);
    match server(conf, install) {
        Ok(tls) => install.tls(tls),
        Err(problem) => {
            let help = files::help(&problem.message);
            install.error(span, help.into_iter().fold(problem, Problem::note));
        }
    }
}

fn server(conf: &Conf, install: &mut Install<'_>) -> Result<ServerTls, Problem> {
    let varies = late::varies(conf);
    let certificates = match varies {
        true => Arc::new(Certificates::new(Vec::new())),
        false => Arc::new(Certificates::new(pairs(conf, install)?)),
    };
    if !varies {
        staple(conf, &certificates, install)?;
    }
    let clients = clients(conf, install)?.map(Arc::new);
    parameters(conf, install)?;
    let timeout = Duration::from_millis(conf.timeout_ms.unwrap_or(300_000));
    let tickets = match conf.tickets {
        Some(false) => None,
        _ if conf.ticket_keys.is_empty() => Some(install.world().ticket_keys(timeout)),
        _ => Some(Arc::new(ticket_keys(conf, install)?)),
    };
    let settings = Server {
        common: Common {
            protocols: conf.protocols.clone().unwrap_or_default(),
            ciphers: conf.ciphers.clone().unwrap_or_default(),
            curves: conf.curves.clone().unwrap_or_default(),
            commands: conf.commands.clone(),
        },
        prefer_server_ciphers: conf.prefer_server_ciphers.unwrap_or_default(),
        sessions: sessions(conf.cache.as_ref()),
        tickets,
        session_timeout: timeout,
        alpn: [&b"http/1.1"[..], b"http/1.0", b"http/0.9"].map(<[u8]>::to_vec).to_vec(),
        early_data: conf.early_data.unwrap_or_default(),
        clients: clients.clone(),
        record_bytes_max: conf.buffer_bytes.unwrap_or(16 * 1024),
        ..Server::new(certificates)
    };
    let built = tls::config::server(&settings).map_err(|words| Problem::new(words).placeless())?;
    let span = conf.certificates.first().map_or(Span::default(), |source| source.span);
    for warning in built.warnings {
        warn_once(install, span, warning);
    }
    let late = match varies {
        true => {
            check_keys(conf)?;
            Some(Arc::new(late::Late::new(conf, settings, passwords(conf, install)?, install))
                as Arc<dyn LateTls>)
        }
        false => None,
    };
    let config = (!conf.certificates.is_empty() && !varies).then_some(built.config);
    let status = status(conf, install)?;
    Ok(ServerTls { config, reject: conf.reject.unwrap_or_default(), clients, late, status })
}

/// Who is asked about clients.
fn status(conf: &Conf, install: &mut Install<'_>) -> Result<Option<Arc<dyn ClientStatus>>, Problem> {
    let leaf_only = match conf.ocsp {
        None | Some(Ocsp::Off) => return Ok(None),
        Some(Ocsp::On) => false,
        Some(Ocsp::Leaf) => true,
    };
    if conf.verify == Some(Verify::OptionalNoCa) {
        let text = "\"ssl_ocsp\" is incompatible with \"ssl_verify_client optional_no_ca\"";
        return Err(Problem::new(text).placeless());
    }
    let responder = match &conf.ocsp_responder {
        Some(url) => {
            let found = Responder::parse(url).and_then(|responder| resolved(responder, install));
            let said = |why| {
                let url = shown(url, why);
                Problem::new(format!("{why} in OCSP responder \"{url}\" in \"ssl_ocsp_responder\""))
                    .placeless()
            };
            Some(found.map_err(said)?)
        }
        None => None,
    };
    let authorities = all_authorities(conf, install)?;
    Ok(Some(Arc::new(ocsp::Ocsp(Arc::new(ocsp::Asking {
        leaf_only,
        responder,
        cache: conf.ocsp_cache.clone().flatten(),
        trust: Trust::new(authorities, &[], conf.depth.unwrap_or(1)).0,
        log: install.core.error_log.clone(),
    })))))
}

/// A URL as nginx's messages have it, which take it apart first.
fn shown<'u>(url: &'u str, why: &str) -> &'u str {
    if why == "invalid URL prefix" { url } else { url.get(7..).unwrap_or_default() }
}

fn resolved(responder: Responder, install: &Install<'_>) -> Result<Responder, &'static str> {
    let addresses = install.world().resolve(responder.host_name(), responder.port);
    Ok(Responder { addresses: addresses.map_err(|_| "host not found")?, ..responder })
}

/// Those of `ssl_client_certificate` and `ssl_trusted_certificate`.
fn all_authorities(conf: &Conf, install: &Install<'_>) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let mut authorities = Vec::new();
    for source in [&conf.client_certificate, &conf.trusted_certificate].into_iter().flatten() {
        let (name, text) = read(source, Kind::Trusted, install)?;
        authorities.extend(files::authorities(&name, &text).map_err(said)?);
    }
    Ok(authorities)
}

/// Settings are inherited, so the same may be said of many servers.
#[derive(Default)]
struct Warned(BTreeSet<String>);

fn warn_once(install: &mut Install<'_>, span: Span, warning: String) {
    if install.registry().of::<Warned>().0.insert(warning.clone()) {
        install.warn(span, warning);
    }
}

/// Nobody needs them; but what nginx would not start with is said.
fn parameters(conf: &Conf, install: &mut Install<'_>) -> Result<(), Problem> {
    let Some(source) = conf.dhparam.as_ref().filter(|_| !conf.certificates.is_empty()) else { return Ok(()) };
    let (name, text) = read(source, Kind::Parameters, install)?;
    files::parameters(&name, &text).map_err(|error| said(error).at_span(source.span))?;
    let text =
        "\"ssl_dhparam\" directive is accepted: no cipher here uses it: key exchange is by elliptic curves";
    warn_once(install, source.span, text.to_owned());
    Ok(())
}

/// Each certificate has a key.
fn check_keys(conf: &Conf) -> Result<(), Problem> {
    if let Some(last) = conf.certificates.last().filter(|_| conf.keys.len() < conf.certificates.len()) {
        let text = &last.text;
        return Err(Problem::new(format!(
            "no \"ssl_certificate_key\" is defined for certificate \"{text}\""
        ))
        .at_span(last.span)
        .placeless());
    }
    Ok(())
}

fn passwords(conf: &Conf, install: &Install<'_>) -> Result<Vec<Vec<u8>>, Problem> {
    match &conf.password_file {
        Some(source) => Ok(files::passwords(&read_file(source, install)?)),
        None => Ok(Vec::new()),
    }
}

fn pairs(conf: &Conf, install: &Install<'_>) -> Result<Vec<tls::config::certificates::Pair>, Problem> {
    check_keys(conf)?;
    let passwords = passwords(conf, install)?;
    let mut chains = Vec::new();
    for (certificate, key) in conf.certificates.iter().zip(&conf.keys) {
        let (name, text) = read(certificate, Kind::Certificate, install)?;
        let chain =
            files::certificates(&name, &text).map_err(|error| said(error).at_span(certificate.span))?;
        let (key_name, text) = read(key, Kind::Key, install)?;
        let of_key = |error| said(error).at_span(key.span);
        chains.push((
            name,
            chain,
            key_name.clone(),
            files::key(&key_name, &text, &passwords).map_err(of_key)?,
            key.span,
        ));
    }
    let pair = |at: usize| {
        let (name, chain, key_name, key, span) = &chains[at];
        files::pair(name, chain.clone(), key_name, key).or_else(|error| {
            // OpenSSL has a place for each kind of key and finds what belongs together, in whatever order the kinds come.
            let others = chains.iter().filter(|other| !files::same_kind(&other.3, key));
            let mut fit =
                others.filter_map(|other| files::pair(name, chain.clone(), &other.2, &other.3).ok());
            fit.next().ok_or_else(|| said(error).at_span(*span))
        })
    };
    (0..chains.len()).map(pair).collect()
}

fn staple(conf: &Conf, certificates: &Arc<Certificates>, install: &mut Install<'_>) -> Result<(), Problem> {
    let Some(first) = conf.certificates.first().filter(|_| conf.stapling == Some(true)) else {
        return Ok(());
    };
    let Some(file) = &conf.stapling_file else {
        return fetch_staples(conf, certificates, install);
    };
    let answer = read_file(file, install)?;
    let (name, text) = read(first, Kind::Certificate, install)?;
    let chain = files::certificates(&name, &text).map_err(said)?;
    if let Some(leaf) = chain.first() {
        certificates.staple(leaf, Some(answer));
    }
    Ok(())
}

/// Answers are fetched for the certificates that say where, or if the configuration does.
fn fetch_staples(
    conf: &Conf,
    certificates: &Arc<Certificates>,
    install: &mut Install<'_>,
) -> Result<(), Problem> {
    let authorities = all_authorities(conf, install)?;
    let span = conf.certificates.first().map_or(Span::default(), |it| it.span);
    let mut staplers = Vec::new();
    for (pair, name) in certificates.pairs().zip(names_of(conf, certificates, install)) {
        let ignored = |why: String| format!("\"ssl_stapling\" ignored, {why} certificate \"{name}\"");
        let Some(question) = Question::new(&pair.cert, &authorities) else {
            warn_once(install, span, ignored("issuer certificate not found for".to_owned()));
            continue;
        };
        let Some(url) = conf.stapling_responder.clone().or_else(|| question.responder()) else {
            warn_once(install, span, ignored("no OCSP responder URL in the".to_owned()));
            continue;
        };
        let found = Responder::parse(&url).and_then(|responder| resolved(responder, install));
        let responder = match found {
            Ok(responder) => responder,
            Err(why) => {
                let url = shown(&url, why);
                warn_once(install, span, ignored(format!("{why} in OCSP responder \"{url}\" in the")));
                continue;
            }
        };
        let verify = (conf.stapling_verify == Some(true))
            .then(|| Trust::new(authorities.clone(), &[], conf.depth.unwrap_or(1)).0);
        let log = install.core.error_log.clone();
        let leaf = pair.cert.first().map_or(&[][..], |leaf| leaf);
        staplers.push(Stapler::new(certificates, leaf, name, question, responder, verify, log));
    }
    if !staplers.is_empty() {
        certificates.watch(Box::new(Staplers(staplers)));
    }
    Ok(())
}

/// What the files of the pairs are called, in the order of the pairs.
fn names_of(conf: &Conf, certificates: &Certificates, install: &Install<'_>) -> Vec<String> {
    let read = |source: &Source| {
        let (name, text) = read(source, Kind::Certificate, install).ok()?;
        Some((files::certificates(&name, &text).ok()?.into_iter().next()?, name))
    };
    let known: Vec<_> = conf.certificates.iter().filter_map(read).collect();
    certificates
        .pairs()
        .map(|pair| {
            let named = known.iter().find(|(known, _)| Some(known) == pair.cert.first());
            named.map_or(String::new(), |(_, name)| name.clone())
        })
        .collect()
}

fn clients(conf: &Conf, install: &mut Install<'_>) -> Result<Option<Clients>, Problem> {
    let ask = match conf.verify {
        None | Some(Verify::Off) => None,
        Some(Verify::On) => Some(Ask::On),
        Some(Verify::Optional) => Some(Ask::Optional),
        Some(Verify::OptionalNoCa) => Some(Ask::OptionalNoCa),
    };
    let (told, silent) = (&conf.client_certificate, &conf.trusted_certificate);
    if matches!(ask, Some(Ask::On | Ask::Optional))
        && !conf.certificates.is_empty()
        && told.is_none()
        && silent.is_none()
    {
        let text = "no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client";
        return Err(Problem::new(text).placeless());
    }
    let authorities = |source: &Option<Source>, install: &Install<'_>| match source {
        Some(source) => {
            let (name, text) = read(source, Kind::Trusted, install)?;
            files::authorities(&name, &text).map_err(|error| said(error).at_span(source.span))
        }
        None => Ok(Vec::new()),
    };
    let hinted = if ask.is_some() { authorities(told, install)? } else { Vec::new() };
    let mut all = hinted.clone();
    // These files must be in order even if nobody is asked for a certificate, as on nginx.
    all.extend(authorities(silent, install)?);
    let lists = match &conf.crl {
        Some(source) => {
            let (name, text) = read(source, Kind::Crl, install)?;
            files::revocations(&name, &text).map_err(|error| said(error).at_span(source.span))?
        }
        None => Vec::new(),
    };
    let Some(ask) = ask else { return Ok(None) };
    let (trust, warnings) = Trust::new(all, &lists, conf.depth.unwrap_or(1));
    let span = told.as_ref().or(silent.as_ref()).map_or(Span::default(), |source| source.span);
    for warning in warnings {
        warn_once(install, span, warning);
    }
    Ok(Some(Clients::new(ask, trust, &hinted)))
}

fn ticket_keys(conf: &Conf, install: &Install<'_>) -> Result<TicketKeys, Problem> {
    let read =
        |source: &Source| Ok((path(source, install).display().to_string(), read_file(source, install)?));
    let read: Vec<(String, Vec<u8>)> = conf.ticket_keys.iter().map(read).collect::<Result<_, Problem>>()?;
    let keys: Vec<(&str, &[u8])> =
        read.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let of =
        |words: &str| conf.ticket_keys.iter().zip(&read).find(|(_, (name, _))| words.contains(name.as_str()));
    TicketKeys::from_files(&keys).map_err(|words| match of(&words) {
        Some((source, _)) => Problem::new(words).at_span(source.span).note(TICKET_KEY_HELP),
        None => Problem::new(words).placeless(),
    })
}

const TICKET_KEY_HELP: &str = "one is made by: openssl rand 80 > FILE";

fn said(error: FileError) -> Problem {
    Problem::new(error.to_string()).placeless()
}

fn path(source: &Source, install: &Install<'_>) -> std::path::PathBuf {
    install.prefixes().conf.join(&source.text)
}

/// The name that messages call it by, and its bytes.
fn read(source: &Source, kind: Kind, install: &Install<'_>) -> Result<(String, Vec<u8>), Problem> {
    if let Some(text) = files::inline(&source.text) {
        return Ok(("data:...".to_owned(), text.as_bytes().to_vec()));
    }
    let path = path(source, install);
    let name = path.display().to_string();
    match install.world().read(&path) {
        Ok(bytes) => Ok((name, bytes)),
        Err(error) => Err(said(files::unreadable(kind, &name, &error)).at_span(source.span)),
    }
}

/// A file that is no PEM.
fn read_file(source: &Source, install: &Install<'_>) -> Result<Vec<u8>, Problem> {
    let path = path(source, install);
    install.world().read(&path).map_err(|error| {
        let text = sys::errno::text(&error);
        Problem::new(format!("open() \"{}\" failed ({text})", path.display())).at_span(source.span)
    })
}

/// A shared cache of a configuration that still lives.
struct Shared {
    name: String,
    bytes: usize,
    sessions: Weak<Store>,
}

/// The process's shared caches: sessions outlive the configuration that named them (D8), as nginx's do in its shared memory.
static SHARED: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

/// Where sessions live: nowhere, with one server, or shared by name.
fn sessions(cache: Option<&Cache>) -> Option<Arc<Store>> {
    match cache {
        None | Some(Cache::None) => None,
        Some(Cache::Builtin(count)) => Some(Arc::new(Store::new(count.saturating_mul(SESSION_BYTES)))),
        Some(Cache::Shared(name, bytes)) => Some(shared(name, *bytes)),
    }
}

fn shared(name: &str, bytes: usize) -> Arc<Store> {
    let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|shared| shared.sessions.strong_count() > 0);
    let known = all.iter().find(|shared| shared.name == name && shared.bytes == bytes);
    if let Some(sessions) = known.and_then(|shared| shared.sessions.upgrade()) {
        return sessions;
    }
    let sessions = Arc::new(Store::new(bytes));
    all.push(Shared { name: name.to_owned(), bytes, sessions: Arc::downgrade(&sessions) });
    sessions
}
