//! `$ssl_...`: what the handshake came to. Without TLS they have no value.

use http::Request;
use http::message::Tls;
use http::variable::{Getter, Variable};
use tls::config::verify::Verdict;

const fn variable(name: &'static str, doc: &'static str, value: Getter) -> Variable {
    Variable { name, doc, value, ..Variable::NONE }
}

const fn nothing(name: &'static str, doc: &'static str) -> Variable {
    variable(name, doc, |_, _, _| false)
}

/// A variable whose text is written by `write`, which says whether there is one.
macro_rules! of_tls {
    ($name:literal, $doc:literal, |$tls:ident, $out:ident| $write:expr) => {
        variable($name, $doc, |request, _, out| {
            with_tls(request, out, |$tls: &Tls, $out: &mut Vec<u8>| -> bool { $write })
        })
    };
}

/// The variables.
pub(super) static VARIABLES: [Variable; 28] = [
    of_tls!("ssl_alpn_protocol", "The protocol agreed upon by ALPN.", |tls, out| {
        text(tls.alpn.as_deref().unwrap_or_default(), out)
    }),
    of_tls!("ssl_cipher", "The cipher suite, in OpenSSL's words.", |tls, out| text(
        tls.cipher.as_bytes(),
        out
    )),
    of_tls!("ssl_ciphers", "The cipher suites the client offered.", |tls, out| {
        joined(tls.ciphers.iter().map(|number| ::tls::names::cipher_of(*number)), out)
    }),
    of_tls!(
        "ssl_client_cert",
        "The client's certificate, PEM, lines after the first indented by a tab.",
        |tls, out| pem(tls, out, b"\n\t")
    ),
    variable("ssl_client_escaped_cert", "The client's certificate, PEM, percent-encoded.", escaped),
    of_tls!("ssl_client_fingerprint", "SHA-1 of the client's certificate.", |tls, out| {
        certificate(tls, ::tls::subject::fingerprint, out)
    }),
    of_tls!("ssl_client_i_dn", "The issuer of the client's certificate (RFC 2253).", |tls, out| {
        certificate(tls, ::tls::subject::issuer, out)
    }),
    of_tls!("ssl_client_i_dn_legacy", "The issuer of the client's certificate, with slashes.", |tls, out| {
        certificate(tls, ::tls::subject::issuer_legacy, out)
    }),
    of_tls!("ssl_client_raw_cert", "The client's certificate, PEM.", |tls, out| pem(tls, out, b"\n")),
    of_tls!("ssl_client_s_dn", "The subject of the client's certificate (RFC 2253).", |tls, out| {
        certificate(tls, ::tls::subject::subject, out)
    }),
    of_tls!(
        "ssl_client_s_dn_legacy",
        "The subject of the client's certificate, with slashes.",
        |tls, out| certificate(tls, ::tls::subject::subject_legacy, out)
    ),
    of_tls!("ssl_client_serial", "The serial number of the client's certificate.", |tls, out| {
        certificate(tls, ::tls::subject::serial, out)
    }),
    of_tls!(
        "ssl_client_sigalg",
        "What the client signed the handshake with, if it showed a certificate.",
        |tls, out| text(tls.client_signature.unwrap_or_default().as_bytes(), out)
    ),
    of_tls!("ssl_client_v_end", "Until when the client's certificate is valid.", |tls, out| {
        certificate(tls, ::tls::subject::not_after, out)
    }),
    of_tls!("ssl_client_v_remain", "Days until the client's certificate is valid no more.", |tls, out| {
        certificate(tls, ::tls::subject::days_left, out)
    }),
    of_tls!("ssl_client_v_start", "From when on the client's certificate is valid.", |tls, out| {
        certificate(tls, ::tls::subject::not_before, out)
    }),
    variable("ssl_client_verify", "SUCCESS, FAILED:reason, or NONE without a certificate.", verdict),
    of_tls!("ssl_curve", "The group of the key exchange.", |tls, out| {
        text(tls.curve.unwrap_or_default().as_bytes(), out)
    }),
    of_tls!("ssl_curves", "The groups the client offered.", |tls, out| {
        joined(tls.curves.iter().map(|number| ::tls::names::group_of(*number)), out)
    }),
    of_tls!(
        "ssl_early_data",
        "1 while the handshake is not over: the request could have been replayed.",
        |tls, out| tls.early.get() && text(b"1", out)
    ),
    nothing("ssl_ech_outer_server_name", "No value here: no encrypted hello is taken."),
    nothing("ssl_ech_status", "No value here: no encrypted hello is taken."),
    of_tls!("ssl_protocol", "TLSv1.2 or TLSv1.3.", |tls, out| text(tls.protocol.as_bytes(), out)),
    of_tls!("ssl_server_name", "The name the client asked for.", |tls, out| {
        tls.server_name.as_ref().is_some_and(|name| text(name.as_bytes(), out))
    }),
    nothing("ssl_session_id", "No value here: sessions are not named."),
    of_tls!("ssl_session_reused", "r when an earlier session was taken up, else a dot.", |tls, out| {
        text(if tls.resumed { b"r" } else { b"." }, out)
    }),
    of_tls!(
        "ssl_sigalg",
        "What the server signed the handshake with; nothing where a session was taken up.",
        |tls, out| text(tls.signature.unwrap_or_default().as_bytes(), out)
    ),
    of_tls!("ssl_sigalgs", "The signature algorithms the client offered, as numbers.", |tls, out| {
        joined(tls.signatures.iter().map(|number| ::tls::names::hexadecimal(*number)), out)
    }),
];

fn with_tls(request: &Request, out: &mut Vec<u8>, write: impl FnOnce(&Tls, &mut Vec<u8>) -> bool) -> bool {
    request.connection.tls.as_ref().is_some_and(|tls| write(tls, out))
}

fn text(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(bytes);
    !bytes.is_empty()
}

fn joined(names: impl Iterator<Item = std::borrow::Cow<'static, str>>, out: &mut Vec<u8>) -> bool {
    let names: Vec<_> = names.collect();
    text(names.join(":").as_bytes(), out)
}

fn certificate(tls: &Tls, value: impl FnOnce(&[u8]) -> Option<String>, out: &mut Vec<u8>) -> bool {
    tls.certificates.first().and_then(|der| value(der)).is_some_and(|value| text(value.as_bytes(), out))
}

/// The client's certificate without a newline at its end, lines parted by `end`.
fn pem(tls: &Tls, out: &mut Vec<u8>, end: &[u8]) -> bool {
    let Some(der) = tls.certificates.first() else { return false };
    for (at, line) in ::tls::files::to_pem(der).trim_end().lines().enumerate() {
        if at > 0 {
            out.extend_from_slice(end);
        }
        out.extend_from_slice(line.as_bytes());
    }
    true
}

fn verdict(request: &mut Request, _name: &str, out: &mut Vec<u8>) -> bool {
    with_tls(request, out, |tls, out| match tls.judged.verdict(request.server().tls.as_ref()) {
        Verdict::None => text(b"NONE", out),
        Verdict::Success => text(b"SUCCESS", out),
        Verdict::Failed(reason) => text(b"FAILED:", out) && text(reason.words.as_bytes(), out),
    })
}

fn escaped(request: &mut Request, _name: &str, out: &mut Vec<u8>) -> bool {
    with_tls(request, out, |tls, out| {
        let Some(der) = tls.certificates.first() else { return false };
        for byte in ::tls::files::to_pem(der).bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
                _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            }
        }
        true
    })
}
