//! OpenSSL's cipher strings and lists of groups, as far as rustls has what they select.
//!
//! A cipher string is a small program over the list of all suites: words add, `-` takes away for now, `!` for good, `+` moves
//! to the end. What a word selects is told by six suites here and by 200 in OpenSSL, so the rest of the names are only known
//! to be told from mistakes.

use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::{CipherSuite, SupportedCipherSuite};

use crate::names;

mod p521;

/// What a setting comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection<T> {
    /// What rustls has, in the order that was asked for.
    pub(crate) chosen: Vec<T>,
    /// What was asked for by name and is OpenSSL's alone.
    pub(crate) left_out: Vec<String>,
}

/// The suites of TLS 1.2 and before that a cipher string (`ssl_ciphers`) selects. Nothing if not even OpenSSL finds any
/// ("no cipher match"); possibly none chosen if only OpenSSL has them.
pub(crate) fn cipher_string(text: &str) -> Option<Selection<CipherSuite>> {
    let mut program = Program::new();
    let (start, rest) = match text.strip_prefix("DEFAULT") {
        Some(rest) => ("ALL:!COMPLEMENTOFDEFAULT:!eNULL", rest),
        None => ("", text),
    };
    for word in start.split(SEPARATORS).chain(rest.split(SEPARATORS)) {
        program.run(word);
    }
    program.found.then(|| program.selection())
}

const SEPARATORS: [char; 4] = [':', ' ', ';', ','];

/// What the words of a cipher string may say of each suite: its OpenSSL name, then all it is called.
const TRAITS: [(CipherSuite, &str, &str); 6] = [
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDSA aECDSA", "AES AES256 AESGCM FIPS"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "aRSA", "AES AES256 AESGCM FIPS"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDSA aECDSA", "CHACHA20"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "aRSA", "CHACHA20"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDSA aECDSA", "AES AES128 AESGCM FIPS"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "aRSA", "AES AES128 AESGCM FIPS"),
];

/// What all six are called.
const COMMON: &str = "ALL HIGH TLSv1.2 kECDHE kEECDH ECDHE EECDH ECDH";

/// Words for groups of suites of which none is ours.
const FOREIGN_GROUPS: &str = "COMPLEMENTOFALL COMPLEMENTOFDEFAULT eNULL NULL aNULL MEDIUM LOW kRSA RSA kDHE kEDH DHE EDH DH \
     ADH AECDH aDSS DSS 3DES RC4 RC2 IDEA SEED DES CAMELLIA CAMELLIA128 CAMELLIA256 ARIA ARIAGCM ARIA128 ARIA256 AESCCM \
     AESCCM8 CBC kPSK kRSAPSK kECDHEPSK kDHEPSK PSK aPSK SRP kSRP aSRP GOST GOST94 GOST89MAC kGOST aGOST aGOST01 MD5 SHA1 \
     SHA SHA256 SHA384 SSLv3 TLSv1 TLSv1.0";

/// Single suites that OpenSSL 3.0 has and rustls has not.
const FOREIGN_SUITES: &str = "\
    DHE-DSS-AES256-GCM-SHA384 DHE-RSA-AES256-GCM-SHA384 DHE-RSA-CHACHA20-POLY1305 ECDHE-ECDSA-AES256-CCM8 \
    ECDHE-ECDSA-AES256-CCM DHE-RSA-AES256-CCM8 DHE-RSA-AES256-CCM ECDHE-ECDSA-ARIA256-GCM-SHA384 \
    ECDHE-ARIA256-GCM-SHA384 DHE-DSS-ARIA256-GCM-SHA384 DHE-RSA-ARIA256-GCM-SHA384 ADH-AES256-GCM-SHA384 \
    DHE-DSS-AES128-GCM-SHA256 DHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES128-CCM8 ECDHE-ECDSA-AES128-CCM \
    DHE-RSA-AES128-CCM8 DHE-RSA-AES128-CCM ECDHE-ECDSA-ARIA128-GCM-SHA256 ECDHE-ARIA128-GCM-SHA256 \
    DHE-DSS-ARIA128-GCM-SHA256 DHE-RSA-ARIA128-GCM-SHA256 ADH-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-SHA384 \
    ECDHE-RSA-AES256-SHA384 DHE-RSA-AES256-SHA256 DHE-DSS-AES256-SHA256 ECDHE-ECDSA-CAMELLIA256-SHA384 \
    ECDHE-RSA-CAMELLIA256-SHA384 DHE-RSA-CAMELLIA256-SHA256 DHE-DSS-CAMELLIA256-SHA256 ADH-AES256-SHA256 \
    ADH-CAMELLIA256-SHA256 ECDHE-ECDSA-AES128-SHA256 ECDHE-RSA-AES128-SHA256 DHE-RSA-AES128-SHA256 \
    DHE-DSS-AES128-SHA256 ECDHE-ECDSA-CAMELLIA128-SHA256 ECDHE-RSA-CAMELLIA128-SHA256 \
    DHE-RSA-CAMELLIA128-SHA256 DHE-DSS-CAMELLIA128-SHA256 ADH-AES128-SHA256 ADH-CAMELLIA128-SHA256 \
    ECDHE-ECDSA-AES256-SHA ECDHE-RSA-AES256-SHA DHE-RSA-AES256-SHA DHE-DSS-AES256-SHA DHE-RSA-CAMELLIA256-SHA \
    DHE-DSS-CAMELLIA256-SHA AECDH-AES256-SHA ADH-AES256-SHA ADH-CAMELLIA256-SHA ECDHE-ECDSA-AES128-SHA \
    ECDHE-RSA-AES128-SHA DHE-RSA-AES128-SHA DHE-DSS-AES128-SHA DHE-RSA-CAMELLIA128-SHA \
    DHE-DSS-CAMELLIA128-SHA AECDH-AES128-SHA ADH-AES128-SHA ADH-CAMELLIA128-SHA RSA-PSK-AES256-GCM-SHA384 \
    DHE-PSK-AES256-GCM-SHA384 RSA-PSK-CHACHA20-POLY1305 DHE-PSK-CHACHA20-POLY1305 ECDHE-PSK-CHACHA20-POLY1305 \
    DHE-PSK-AES256-CCM8 DHE-PSK-AES256-CCM RSA-PSK-ARIA256-GCM-SHA384 DHE-PSK-ARIA256-GCM-SHA384 \
    AES256-GCM-SHA384 AES256-CCM8 AES256-CCM ARIA256-GCM-SHA384 PSK-AES256-GCM-SHA384 PSK-CHACHA20-POLY1305 \
    PSK-AES256-CCM8 PSK-AES256-CCM PSK-ARIA256-GCM-SHA384 RSA-PSK-AES128-GCM-SHA256 DHE-PSK-AES128-GCM-SHA256 \
    DHE-PSK-AES128-CCM8 DHE-PSK-AES128-CCM RSA-PSK-ARIA128-GCM-SHA256 DHE-PSK-ARIA128-GCM-SHA256 \
    AES128-GCM-SHA256 AES128-CCM8 AES128-CCM ARIA128-GCM-SHA256 PSK-AES128-GCM-SHA256 PSK-AES128-CCM8 \
    PSK-AES128-CCM PSK-ARIA128-GCM-SHA256 AES256-SHA256 CAMELLIA256-SHA256 AES128-SHA256 CAMELLIA128-SHA256 \
    ECDHE-PSK-AES256-CBC-SHA384 ECDHE-PSK-AES256-CBC-SHA SRP-DSS-AES-256-CBC-SHA SRP-RSA-AES-256-CBC-SHA \
    SRP-AES-256-CBC-SHA RSA-PSK-AES256-CBC-SHA384 DHE-PSK-AES256-CBC-SHA384 RSA-PSK-AES256-CBC-SHA \
    DHE-PSK-AES256-CBC-SHA ECDHE-PSK-CAMELLIA256-SHA384 RSA-PSK-CAMELLIA256-SHA384 DHE-PSK-CAMELLIA256-SHA384 \
    AES256-SHA CAMELLIA256-SHA PSK-AES256-CBC-SHA384 PSK-AES256-CBC-SHA PSK-CAMELLIA256-SHA384 \
    ECDHE-PSK-AES128-CBC-SHA256 ECDHE-PSK-AES128-CBC-SHA SRP-DSS-AES-128-CBC-SHA SRP-RSA-AES-128-CBC-SHA \
    SRP-AES-128-CBC-SHA RSA-PSK-AES128-CBC-SHA256 DHE-PSK-AES128-CBC-SHA256 RSA-PSK-AES128-CBC-SHA \
    DHE-PSK-AES128-CBC-SHA ECDHE-PSK-CAMELLIA128-SHA256 RSA-PSK-CAMELLIA128-SHA256 DHE-PSK-CAMELLIA128-SHA256 \
    AES128-SHA CAMELLIA128-SHA PSK-AES128-CBC-SHA256 PSK-AES128-CBC-SHA PSK-CAMELLIA128-SHA256 \
    ECDHE-ECDSA-NULL-SHA ECDHE-RSA-NULL-SHA AECDH-NULL-SHA NULL-SHA256 ECDHE-PSK-NULL-SHA384 \
    ECDHE-PSK-NULL-SHA256 ECDHE-PSK-NULL-SHA RSA-PSK-NULL-SHA384 RSA-PSK-NULL-SHA256 DHE-PSK-NULL-SHA384 \
    DHE-PSK-NULL-SHA256 RSA-PSK-NULL-SHA DHE-PSK-NULL-SHA NULL-SHA NULL-MD5 PSK-NULL-SHA384 PSK-NULL-SHA256 \
    PSK-NULL-SHA";

/// The list of suites under the words of a string.
struct Program {
    /// All six but those that are gone for good; those that are out may stand anywhere.
    list: Vec<Entry>,
    left_out: Vec<String>,
    /// Whether a word has selected anything in OpenSSL.
    found: bool,
}

struct Entry {
    suite: CipherSuite,
    traits: [&'static str; 2],
    chosen: bool,
}

impl Program {
    fn new() -> Program {
        let entry = |(suite, who, how)| Entry { suite, traits: [who, how], chosen: false };
        Program { list: TRAITS.into_iter().map(entry).collect(), left_out: Vec::new(), found: false }
    }

    /// Runs one word. Each stable sort moves what it is about to one end and leaves the order otherwise.
    fn run(&mut self, word: &str) {
        let list = &mut self.list;
        match word.as_bytes() {
            [b'!', ..] => {
                list.retain(|entry| !entry.is(&word[1..]));
                self.left_out.retain(|name| *name != word[1..]);
            }
            [b'-', ..] => {
                let word = &word[1..];
                list.sort_by_key(|entry| !(entry.chosen && entry.is(word)));
                list.iter_mut().filter(|entry| entry.is(word)).for_each(|entry| entry.chosen = false);
                self.left_out.retain(|name| name != word);
            }
            [b'+', ..] => list.sort_by_key(|entry| entry.chosen && entry.is(&word[1..])),
            b"@STRENGTH" => list.sort_by_key(|entry| match entry.chosen {
                false => 0,
                true if entry.is("AES128") => 2,
                true => 1,
            }),
            // The security level: what rustls does by itself is above OpenSSL's 1.
            [b'@', ..] | [] => {}
            _ => self.add(word),
        }
    }

    fn add(&mut self, word: &str) {
        let names = match word {
            "SUITEB128" => "ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384",
            "SUITEB128ONLY" => "ECDHE-ECDSA-AES128-GCM-SHA256",
            "SUITEB128C2" | "SUITEB192" => "ECDHE-ECDSA-AES256-GCM-SHA384",
            _ => word,
        };
        for word in names.split(' ') {
            self.list.sort_by_key(|entry| !entry.chosen && entry.is(word));
            let selected = self.list.iter_mut().filter(|entry| entry.is(word));
            self.found |= selected.map(|entry| entry.chosen = true).count() > 0;
        }
        let foreign = has_word(FOREIGN_SUITES, word);
        self.found |=
            foreign || word.split('+').all(|part| has_word(FOREIGN_GROUPS, part) || has_word(COMMON, part));
        if foreign && !self.left_out.iter().any(|name| name == word) {
            self.left_out.push(word.to_owned());
        }
    }

    fn selection(self) -> Selection<CipherSuite> {
        let chosen = self.list.into_iter().filter(|entry| entry.chosen).map(|entry| entry.suite).collect();
        Selection { chosen, left_out: self.left_out }
    }
}

impl Entry {
    /// Whether a word selects it: a name, a trait, or several traits joined by `+`.
    fn is(&self, word: &str) -> bool {
        is_named(self.suite, word)
            || word
                .split('+')
                .all(|part| has_word(COMMON, part) || self.traits.iter().any(|traits| has_word(traits, part)))
    }
}

/// Whether that is the suite's name, OpenSSL's or the standard's.
fn is_named(suite: CipherSuite, word: &str) -> bool {
    names::cipher(suite) == word || suite.as_str() == Some(word)
}

fn has_word(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == word)
}

/// The suites of TLS 1.3 that a list (`Ciphersuites` of `ssl_conf_command`) names, and the names rustls doesn't know. Nothing
/// if there is a name that isn't OpenSSL's either.
pub(crate) fn ciphersuites(text: &str) -> Option<Selection<CipherSuite>> {
    let mut selection = Selection { chosen: Vec::new(), left_out: Vec::new() };
    for word in text.split(':').filter(|word| !word.is_empty()) {
        match names::CIPHERS[..3].iter().find(|(_, name)| *name == word) {
            Some((suite, _)) => selection.chosen.push(*suite),
            None if word.starts_with("TLS_AES_128_CCM_") => selection.left_out.push(word.to_owned()),
            None => return None,
        }
    }
    Some(selection)
}

/// What OpenSSL offers of TLS 1.3 unless told otherwise.
pub(crate) const CIPHERSUITES: &str =
    "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";

/// A suite by its number.
pub(crate) fn suite(number: CipherSuite) -> Option<SupportedCipherSuite> {
    aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|suite| suite.suite() == number).copied()
}

/// Groups there are: OpenSSL's names of them, all read without regard to case.
static GROUPS: [(&str, &dyn SupportedKxGroup); 8] = [
    ("x25519mlkem768", aws_lc_rs::kx_group::X25519MLKEM768),
    ("x25519", aws_lc_rs::kx_group::X25519),
    ("prime256v1 secp256r1 p-256", aws_lc_rs::kx_group::SECP256R1),
    ("secp384r1 p-384", aws_lc_rs::kx_group::SECP384R1),
    ("secp521r1 p-521", p521::SECP521R1),
    ("secp256r1mlkem768", aws_lc_rs::kx_group::SECP256R1MLKEM768),
    ("mlkem768", aws_lc_rs::kx_group::MLKEM768),
    ("mlkem1024", aws_lc_rs::kx_group::MLKEM1024),
];

/// So many of them are meant by `auto`.
const AUTO: usize = 5;

/// Groups that are OpenSSL's alone.
const FOREIGN_GROUP_STARTS: [&str; 10] =
    ["x448", "secp", "p-", "sect", "brainpool", "ffdhe", "prime", "b-", "k-", "mlkem"];

/// The groups a list (`ssl_ecdh_curve`, `Groups`) names; `auto` is what rustls prefers, and P-521. The error is a name that isn't
/// OpenSSL's either.
pub(crate) fn groups(text: &str) -> Result<Selection<&'static dyn SupportedKxGroup>, &str> {
    let mut selection = Selection { chosen: Vec::new(), left_out: Vec::new() };
    if text == "auto" {
        selection.chosen.extend(GROUPS[..AUTO].iter().map(|(_, group)| *group));
        return Ok(selection);
    }
    // OpenSSL 3.5 adds marks: `?` forgives an unknown name, `*` asks for a key share, `/` ends a class of equals.
    for word in text.split([':', '/']) {
        let (name, forgiven) = (word.trim_start_matches(['*', '?']).to_ascii_lowercase(), word.contains('?'));
        match GROUPS.iter().find(|(names, _)| has_word(names, &name)) {
            Some((_, group)) => selection.chosen.push(*group),
            None if FOREIGN_GROUP_STARTS.iter().any(|start| name.starts_with(start)) => {
                selection.left_out.push(word.to_owned());
            }
            None if forgiven => {}
            None => return Err(word),
        }
    }
    Ok(selection)
}

#[cfg(test)]
mod tests;
