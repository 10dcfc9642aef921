//! What a certificate says of its holder, as nginx's variables show it.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::name::Name;
use x509_cert::time::Time;

fn parsed(der: &[u8]) -> Option<Certificate> {
    Certificate::from_der(der).ok()
}

/// `$ssl_client_s_dn`: RFC 2253, the last part first.
pub fn subject(der: &[u8]) -> Option<String> {
    Some(parsed(der)?.tbs_certificate().subject().to_string())
}

/// `$ssl_client_i_dn`
pub fn issuer(der: &[u8]) -> Option<String> {
    Some(parsed(der)?.tbs_certificate().issuer().to_string())
}

/// `$ssl_client_s_dn_legacy`: `/C=..../CN=...`
pub fn subject_legacy(der: &[u8]) -> Option<String> {
    Some(slashed(parsed(der)?.tbs_certificate().subject()))
}

/// `$ssl_client_i_dn_legacy`
pub fn issuer_legacy(der: &[u8]) -> Option<String> {
    Some(slashed(parsed(der)?.tbs_certificate().issuer()))
}

fn slashed(name: &Name) -> String {
    name.iter_rdn().map(|part| format!("/{part}")).collect()
}

/// `$ssl_client_serial`: hexadecimal, in upper case.
pub fn serial(der: &[u8]) -> Option<String> {
    let certificate = parsed(der)?;
    Some(hex(certificate.tbs_certificate().serial_number().as_bytes()).to_ascii_uppercase())
}

/// `$ssl_client_fingerprint`: SHA-1, hexadecimal.
pub fn fingerprint(der: &[u8]) -> Option<String> {
    Some(hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()))
}

/// `$ssl_client_v_start`: `Nov 23 03:11:24 2026 GMT`
pub fn not_before(der: &[u8]) -> Option<String> {
    Some(date(&parsed(der)?.tbs_certificate().validity().not_before))
}

/// `$ssl_client_v_end`
pub fn not_after(der: &[u8]) -> Option<String> {
    Some(date(&parsed(der)?.tbs_certificate().validity().not_after))
}

/// `$ssl_client_v_remain`: whole days, 0 when it is over.
pub fn days_left(der: &[u8]) -> Option<String> {
    let end = parsed(der)?.tbs_certificate().validity().not_after.to_unix_duration();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some((end.saturating_sub(now).as_secs() / 86_400).to_string())
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn date(time: &Time) -> String {
    let time = time.to_date_time();
    let month = MONTHS[usize::from(time.month().clamp(1, 12)) - 1];
    let (day, hour, minutes, seconds) = (time.day(), time.hour(), time.minutes(), time.seconds());
    format!("{month} {day:>2} {hour:02}:{minutes:02}:{seconds:02} {} GMT", time.year())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
