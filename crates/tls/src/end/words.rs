//! What went wrong in the words people search for: OpenSSL's for alerts and for what happens every day, rustls' for the rest.

use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible, ProtocolVersion};
use wire::tls::TlsError;

/// What rustls says, given the version agreed upon so far.
pub(super) fn words(error: Error, version: Option<ProtocolVersion>) -> TlsError {
    match error {
        // Our own verifier's: they say it all.
        Error::InvalidCertificate(CertificateError::Other(why)) => TlsError::new(why.to_string()),
        Error::AlertReceived(alert) => TlsError::new(alert_words(u8::from(alert), &error)),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => TlsError::new("error:0A00010B:SSL routines::wrong version number"),
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) => {
            TlsError::new("error:0A000092:SSL routines::data length too long")
        }
        Error::NoApplicationProtocol => TlsError::new("error:0A0000EB:SSL routines::no application protocol"),
        Error::DecryptError => {
            TlsError::new("error:0A000119:SSL routines::decryption failed or bad record mac")
        }
        Error::PeerIncompatible(reason) => TlsError::new(incompatible_words(&reason, version)),
        error => TlsError::new(error.to_string()),
    }
}

fn incompatible_words(reason: &PeerIncompatible, version: Option<ProtocolVersion>) -> String {
    let words = match reason {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => UNSUPPORTED_PROTOCOL,
        PeerIncompatible::NoKxGroupsInCommon if version == Some(ProtocolVersion::TLSv1_3) => {
            "error:0A000065:SSL routines::no suitable key share"
        }
        // Without a group in common no suite with a key exchange is left.
        PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon => {
            "error:0A0000C1:SSL routines::no shared cipher"
        }
        other => return Error::PeerIncompatible(other.clone()).to_string(),
    };
    words.to_owned()
}

/// A client or server that speaks only what we don't.
pub(super) const UNSUPPORTED_PROTOCOL: &str = "error:0A000102:SSL routines::unsupported protocol";

/// OpenSSL's reason is the alert's number and a thousand.
fn alert_words(number: u8, error: &Error) -> String {
    match ALERTS.iter().find(|(known, _)| number == *known) {
        Some((_, words)) => {
            format!(
                "error:0A{:06X}:SSL routines::{words}:SSL alert number {number}",
                1000 + u32::from(number)
            )
        }
        None => error.to_string(),
    }
}

/// Alerts by number (RFC 8446 section 6) in OpenSSL's words.
const ALERTS: [(u8, &str); 27] = [
    (10, "ssl/tls alert unexpected message"),
    (20, "ssl/tls alert bad record mac"),
    (21, "tlsv1 alert decryption failed"),
    (22, "tlsv1 alert record overflow"),
    (40, "ssl/tls alert handshake failure"),
    (42, "ssl/tls alert bad certificate"),
    (43, "ssl/tls alert unsupported certificate"),
    (44, "ssl/tls alert certificate revoked"),
    (45, "ssl/tls alert certificate expired"),
    (46, "ssl/tls alert certificate unknown"),
    (47, "ssl/tls alert illegal parameter"),
    (48, "tlsv1 alert unknown ca"),
    (49, "tlsv1 alert access denied"),
    (50, "tlsv1 alert decode error"),
    (51, "tlsv1 alert decrypt error"),
    (70, "tlsv1 alert protocol version"),
    (71, "tlsv1 alert insufficient security"),
    (80, "tlsv1 alert internal error"),
    (86, "tlsv1 alert inappropriate fallback"),
    (90, "tlsv1 alert user cancelled"),
    (100, "tlsv1 alert no renegotiation"),
    (109, "tlsv13 alert missing extension"),
    (110, "tlsv1 unsupported extension"),
    (112, "tlsv1 unrecognized name"),
    (113, "tlsv1 bad certificate status response"),
    (116, "tlsv13 alert certificate required"),
    (120, "tlsv1 alert no application protocol"),
];

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn known_alerts_in_openssls_words() {
        let check = |alert: AlertDescription, expected: &str| {
            assert_eq!(words(Error::AlertReceived(alert), None).to_string(), expected);
        };
        check(
            AlertDescription::UnknownCA,
            "error:0A000418:SSL routines::tlsv1 alert unknown ca:SSL alert number 48",
        );
        check(
            AlertDescription::CertificateRequired,
            "error:0A00045C:SSL routines::tlsv13 alert certificate required:SSL alert number 116",
        );
        check(AlertDescription::NoCertificate, "received fatal alert: NoCertificate");
    }
}
