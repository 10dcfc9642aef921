//! `ssl_certificate` and its family: TLS towards clients.
//!
//! The directives only gather what was written; [`settings`] reads the files and makes of it what a server's handshakes follow.

mod late;
mod ocsp;
mod settings;
mod stapling;
mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::tls::cache::Cache as Cached;
use http::config::{
    Args, Directive, HTTP_SERVER, Line, Merge, Module, ModuleConf, Problem, certificate_cache, conf_of,
};
use http::{Template, set};

/// The module.
pub static MODULE: Module = Module {
    name: "ssl",
    doc: "TLS towards clients, by rustls with AWS-LC.",
    directives: &DIRECTIVES,
    variables: &variables::VARIABLES,
    conf: Some(conf_of::<Conf>()),
    install: Some(settings::install),
    ..Module::NONE
};

/// A file of PEM or of bytes as written: a path, or `data:` and the text itself.
#[derive(Clone, Debug)]
struct Source {
    text: String,
    span: conf::Span,
    /// The text, compiled, if variables are in it: it is read at handshakes.
    template: Option<Template>,
}

/// `ssl_session_cache`
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cache {
    /// `off`, `none`: nothing is remembered.
    None,
    /// `builtin[:sessions]`: of one server.
    Builtin(usize),
    /// `shared:name:bytes`
    Shared(String, usize),
}

/// `ssl_verify_client`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verify {
    Off,
    On,
    Optional,
    OptionalNoCa,
}

/// `ssl_ocsp`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ocsp {
    Off,
    On,
    Leaf,
}

/// What was written, and with the outer blocks' lines what holds.
#[derive(Clone, Default)]
struct Conf {
    certificates: Vec<Source>,
    keys: Vec<Source>,
    certificate_cache: Option<Option<Arc<Cached>>>,
    password_file: Option<Source>,
    protocols: Option<Vec<String>>,
    ciphers: Option<String>,
    curves: Option<String>,
    dhparam: Option<Source>,
    commands: Vec<(String, String)>,
    prefer_server_ciphers: Option<bool>,
    cache: Option<Cache>,
    tickets: Option<bool>,
    ticket_keys: Vec<Source>,
    timeout_ms: Option<u64>,
    verify: Option<Verify>,
    client_certificate: Option<Source>,
    trusted_certificate: Option<Source>,
    crl: Option<Source>,
    depth: Option<usize>,
    reject: Option<bool>,
    buffer_bytes: Option<usize>,
    early_data: Option<bool>,
    stapling: Option<bool>,
    stapling_file: Option<Source>,
    stapling_verify: Option<bool>,
    ocsp: Option<Ocsp>,
    ocsp_responder: Option<String>,
    ocsp_cache: Option<Option<Arc<ocsp::Cache>>>,
    stapling_responder: Option<String>,
}

const fn directive(name: &'static str, default: &'static str, doc: &'static str) -> Directive {
    Directive { name, at: HTTP_SERVER, default, doc, ..Directive::NONE }
}

static DIRECTIVES: [Directive; 29] = [
    Directive {
        set: set!(Conf, |conf, line| pem(line).map(|source| conf.certificates.push(source))),
        ..directive(
            "ssl_certificate",
            "",
            "The server's certificate with those that go with it, PEM; with variables it is read at each handshake. \
             May be repeated for keys of another kind.",
        )
    },
    Directive {
        args: Args::Between(1, 3),
        set: set!(Conf, |conf, line| {
            let cache = certificate_cache(line)?;
            line.once(&mut conf.certificate_cache, cache)
        }),
        ..directive(
            "ssl_certificate_cache",
            "off",
            "How many files of certificates and keys with variables are kept: max=number [valid=time] [inactive=time].",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| key(conf, line)),
        ..directive("ssl_certificate_key", "", "The key of the certificate written in the same place.")
    },
    Directive {
        set: set!(Conf, |conf, line| {
            line.once(&mut conf.password_file, source(line)?)?;
            line.readable(0)
        }),
        ..directive("ssl_password_file", "", "Passwords for encrypted keys, one a line, each tried in turn.")
    },
    Directive {
        args: Args::AtLeast(1),
        set: set!(Conf, |conf, line| protocols(conf, line)),
        ..directive(
            "ssl_protocols",
            "TLSv1.2 TLSv1.3",
            "Which of TLSv1.2 and TLSv1.3 are spoken; older ones are left out with a warning.",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.ciphers, line.text(0))),
        ..directive(
            "ssl_ciphers",
            "HIGH:!aNULL:!MD5",
            "Ciphers for TLSv1.2 in OpenSSL's words, as far as they are ECDHE with an AEAD.",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.dhparam, source(line)?)),
        ..directive(
            "ssl_dhparam",
            "",
            "Read and not used, which one line says: no cipher here needs it, key exchange is by elliptic curves.",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.curves, line.text(0))),
        ..directive("ssl_ecdh_curve", "auto", "Groups for the key exchange, the preferred first.")
    },
    Directive {
        args: Args::Exactly(2),
        set: set!(Conf, |conf, line| {
            conf.commands.push((line.text(0), line.text(1)));
            Ok(())
        }),
        ..directive(
            "ssl_conf_command",
            "",
            "A command of OpenSSL's, as far as there is something to command here.",
        )
    },
    Directive {
        args: Args::Flag,
        set: set!(Conf, |conf, line| line.once(&mut conf.prefer_server_ciphers, line.flag()?)),
        ..directive("ssl_prefer_server_ciphers", "off", "Whether the server's order of ciphers decides.")
    },
    Directive {
        args: Args::Between(1, 2),
        set: set!(Conf, |conf, line| {
            // nginx lets it be repeated.
            conf.cache = Some(cache(line)?);
            Ok(())
        }),
        ..directive(
            "ssl_session_cache",
            "none",
            "Where sessions are remembered: off, none, builtin[:sessions], shared:name:size; a shared one outlives reloads.",
        )
    },
    Directive {
        args: Args::Flag,
        set: set!(Conf, |conf, line| line.once(&mut conf.tickets, line.flag()?)),
        ..directive("ssl_session_tickets", "on", "Whether clients keep their sessions themselves, encrypted.")
    },
    Directive {
        set: set!(Conf, |conf, line| source(line).map(|source| conf.ticket_keys.push(source))),
        ..directive(
            "ssl_session_ticket_key",
            "",
            "A file of 48 or 80 bytes: the first encrypts tickets, all decrypt.",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.timeout_ms, seconds(line)?)),
        ..directive("ssl_session_timeout", "5m", "How long a session can be taken up again.")
    },
    Directive {
        set: set!(Conf, |conf, line| {
            let words = ["off", "on", "optional", "optional_no_ca"];
            let all = [Verify::Off, Verify::On, Verify::Optional, Verify::OptionalNoCa];
            line.once(&mut conf.verify, all[line.one_of(0, &words)?])
        }),
        ..directive(
            "ssl_verify_client",
            "off",
            "Whether clients are asked for a certificate: off, on, optional, optional_no_ca.",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.client_certificate, source(line)?)),
        ..directive("ssl_client_certificate", "", "Authorities of clients, whose names they are told.")
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.trusted_certificate, source(line)?)),
        ..directive("ssl_trusted_certificate", "", "Authorities of clients that they are not told.")
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.crl, source(line)?)),
        ..directive("ssl_crl", "", "Revocation lists of the authorities.")
    },
    Directive {
        set: set!(Conf, |conf, line| {
            let depth = line.number(0..=u64::MAX)?.min(100);
            line.once(&mut conf.depth, usize::try_from(depth).unwrap_or_default())
        }),
        ..directive(
            "ssl_verify_depth",
            "1",
            "How many certificates may stand between a client's and its authority's.",
        )
    },
    Directive {
        args: Args::Flag,
        set: set!(Conf, |conf, line| line.once(&mut conf.reject, line.flag()?)),
        ..directive("ssl_reject_handshake", "off", "Whether handshakes are turned away in this server.")
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.buffer_bytes, line.size()?)),
        ..directive("ssl_buffer_size", "16k", "The most plain bytes in one record.")
    },
    Directive {
        args: Args::Flag,
        set: set!(Conf, |conf, line| line.once(&mut conf.early_data, line.flag()?)),
        ..directive(
            "ssl_early_data",
            "off",
            "Whether requests are taken in TLS 1.3 early data; see $ssl_early_data.",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| {
            let all = [Ocsp::Off, Ocsp::On, Ocsp::Leaf];
            line.once(&mut conf.ocsp, all[line.one_of(0, &["off", "on", "leaf"])?])
        }),
        ..directive(
            "ssl_ocsp",
            "off",
            "Whether responders are asked if clients' certificates are revoked: off, on, or leaf for theirs alone.",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| {
            let cache = ocsp_cache(line)?;
            line.once(&mut conf.ocsp_cache, cache)
        }),
        ..directive("ssl_ocsp_cache", "off", "Where answers about clients are kept: off or shared:name:size.")
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.ocsp_responder, line.text(0))),
        ..directive(
            "ssl_ocsp_responder",
            "",
            "The URL of the OCSP responder for clients, http only, instead of those in the certificates.",
        )
    },
    Directive {
        args: Args::Flag,
        set: set!(Conf, |conf, line| line.once(&mut conf.stapling, line.flag()?)),
        ..directive(
            "ssl_stapling",
            "off",
            "Whether an OCSP answer goes with the certificate: of ssl_stapling_file, or fetched when a handshake wants it.",
        )
    },
    Directive {
        args: Args::Flag,
        set: set!(Conf, |conf, line| line.once(&mut conf.stapling_verify, line.flag()?)),
        ..directive(
            "ssl_stapling_verify",
            "off",
            "Whether a responder other than the issuer must come from ssl_trusted_certificate.",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.stapling_responder, line.text(0))),
        ..directive(
            "ssl_stapling_responder",
            "",
            "The URL of the OCSP responder, http only, instead of the one in the certificate.",
        )
    },
    Directive {
        set: set!(Conf, |conf, line| line.once(&mut conf.stapling_file, source(line)?)),
        ..directive(
            "ssl_stapling_file",
            "",
            "An OCSP answer, DER, for the first certificate: none is fetched.",
        )
    },
];

fn key(conf: &mut Conf, line: &mut Line<'_>) -> Result<(), Problem> {
    let source = pem(line)?;
    let scheme = ["engine:", "store:"].into_iter().find(|scheme| source.text.starts_with(scheme));
    // Even so it is the certificate's key: there is no second error.
    conf.keys.push(source);
    match scheme {
        None => Ok(()),
        Some(scheme) => {
            let text =
                format!("\"{scheme}\" in \"{}\" is not supported: keys are read from files", line.name());
            Err(Problem::new(text).at(line.word(0)))
        }
    }
}

/// A certificate or key, whose name may have variables.
fn pem(line: &mut Line<'_>) -> Result<Source, Problem> {
    let mut source = source(line)?;
    if source.text.contains('$') {
        source.template = Some(line.template(0)?).filter(Template::varies);
    }
    Ok(source)
}

fn source(line: &Line<'_>) -> Result<Source, Problem> {
    Ok(Source { text: line.text(0), span: line.span(), template: None })
}

const PROTOCOLS: [&str; 6] = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

fn protocols(conf: &mut Conf, line: &mut Line<'_>) -> Result<(), Problem> {
    let words = line.mask(0, &PROTOCOLS)?;
    let chosen = PROTOCOLS.iter().enumerate().filter(|(at, _)| words & 1 << at != 0);
    conf.protocols.get_or_insert_default().extend(chosen.map(|(_, name)| (*name).to_owned()));
    Ok(())
}

/// nginx's smallest shared zone: eight pages.
const SHARED_BYTES_MIN: usize = 8 * 4096;
/// Sessions of a builtin cache that does not say (OpenSSL's default).
const BUILTIN_SESSIONS: usize = 20 * 1024;

/// Sizes of shared caches by name: all lines of a configuration agree on them.
#[derive(Default)]
struct Declared(BTreeMap<String, usize>);

fn seconds(line: &Line<'_>) -> Result<u64, Problem> {
    let seconds = conf::value::time_s(line.bytes(0));
    let seconds =
        seconds.ok_or_else(|| line.invalid_value(0, "a time is seconds, or with a unit: 60s, 5m, 1h, 1d"))?;
    Ok(seconds.saturating_mul(1000))
}

fn ocsp_cache(line: &mut Line<'_>) -> Result<Option<Arc<ocsp::Cache>>, Problem> {
    let text = line.text(0);
    if text == "off" {
        return Ok(None);
    }
    let invalid = || Problem::new(format!("invalid OCSP cache \"{text}\"")).at(line.word(0));
    let (name, size) =
        text.strip_prefix("shared:").and_then(|rest| rest.split_once(':')).ok_or_else(invalid)?;
    let size = conf::value::size(size.as_bytes()).and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|_| !name.is_empty()).ok_or_else(invalid)?;
    if size < SHARED_BYTES_MIN {
        return Err(Problem::new(format!("OCSP cache \"{text}\" is too small")).at(line.word(0)));
    }
    Ok(Some(ocsp::Cache::shared(name, size)))
}

fn cache(line: &mut Line<'_>) -> Result<Cache, Problem> {
    let mut cache = Cache::None;
    for index in 0..line.count() {
        let text = line.text(index);
        let word = line.word(index).clone();
        let invalid = || Problem::new(format!("invalid session cache \"{text}\"")).at(&word);
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("off" | "none"), None, ..) => {}
            (Some("builtin"), None, ..) => cache = Cache::Builtin(BUILTIN_SESSIONS),
            (Some("builtin"), Some(count), None, None) => {
                let count = conf::value::number(count.as_bytes()).ok_or_else(invalid)?;
                cache = Cache::Builtin(usize::try_from(count).map_err(|_| invalid())?);
            }
            (Some("shared"), Some(name), Some(size), None) if !name.is_empty() => {
                let size = conf::value::size(size.as_bytes()).and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(invalid)?;
                if size < SHARED_BYTES_MIN {
                    return Err(Problem::new(format!("session cache \"{text}\" is too small")).at(&word));
                }
                let declared = *line.registry().of::<Declared>().0.entry(name.to_owned()).or_insert(size);
                if declared != size {
                    return Err(Problem::new(format!(
                        "the size {size} of shared memory zone \"{name}\" conflicts with already declared size {declared}"
                    )));
                }
                cache = Cache::Shared(name.to_owned(), size);
                // With both written the shared one is the one that serves all workers.
                break;
            }
            _ => return Err(invalid()),
        }
    }
    Ok(cache)
}

impl ModuleConf for Conf {
    type Merged = Conf;

    fn merge(self, outer: &Conf, _at: &mut Merge<'_>) -> Result<Conf, Problem> {
        fn list<T: Clone>(own: Vec<T>, outer: &[T]) -> Vec<T> {
            if own.is_empty() { outer.to_vec() } else { own }
        }
        Ok(Conf {
            certificates: list(self.certificates, &outer.certificates),
            keys: list(self.keys, &outer.keys),
            certificate_cache: self.certificate_cache.or_else(|| outer.certificate_cache.clone()),
            password_file: self.password_file.or_else(|| outer.password_file.clone()),
            protocols: self.protocols.or_else(|| outer.protocols.clone()),
            ciphers: self.ciphers.or_else(|| outer.ciphers.clone()),
            curves: self.curves.or_else(|| outer.curves.clone()),
            dhparam: self.dhparam.or_else(|| outer.dhparam.clone()),
            commands: list(self.commands, &outer.commands),
            prefer_server_ciphers: self.prefer_server_ciphers.or(outer.prefer_server_ciphers),
            cache: self.cache.or_else(|| outer.cache.clone()),
            tickets: self.tickets.or(outer.tickets),
            ticket_keys: list(self.ticket_keys, &outer.ticket_keys),
            timeout_ms: self.timeout_ms.or(outer.timeout_ms),
            verify: self.verify.or(outer.verify),
            client_certificate: self.client_certificate.or_else(|| outer.client_certificate.clone()),
            trusted_certificate: self.trusted_certificate.or_else(|| outer.trusted_certificate.clone()),
            crl: self.crl.or_else(|| outer.crl.clone()),
            depth: self.depth.or(outer.depth),
            reject: self.reject.or(outer.reject),
            buffer_bytes: self.buffer_bytes.or(outer.buffer_bytes),
            early_data: self.early_data.or(outer.early_data),
            stapling: self.stapling.or(outer.stapling),
            stapling_file: self.stapling_file.or_else(|| outer.stapling_file.clone()),
            stapling_verify: self.stapling_verify.or(outer.stapling_verify),
            ocsp: self.ocsp.or(outer.ocsp),
            ocsp_responder: self.ocsp_responder.or_else(|| outer.ocsp_responder.clone()),
            ocsp_cache: self.ocsp_cache.or_else(|| outer.ocsp_cache.clone()),
            stapling_responder: self.stapling_responder.or_else(|| outer.stapling_responder.clone()),
        })
    }
}
