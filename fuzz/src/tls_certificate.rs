//! What a peer sends as its certificate, and what a responder says of it: no panic, and no certificate is judged by garbage.

use std::sync::LazyLock;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use tls::ocsp::Question;
use tls::subject;

use crate::Target;

pub(crate) const TARGET: Target = Target { name: "tls_certificate", run, samples, words: WORDS };

/// An authority and a certificate of it.
static CHAIN: LazyLock<[CertificateDer<'static>; 2]> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("an authority").der().clone();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["a.test".to_owned()]).expect("a name");
    [params.signed_by(&key, &issuer).expect("a certificate").der().clone(), authority]
});

fn run(data: &[u8]) {
    let facts = [
        subject::subject(data),
        subject::issuer(data),
        subject::subject_legacy(data),
        subject::issuer_legacy(data),
        subject::serial(data),
        subject::fingerprint(data),
        subject::not_before(data),
        subject::not_after(data),
        subject::days_left(data),
    ];
    // They stand in log lines and header fields.
    assert!(facts.iter().flatten().all(|text| !text.contains(['\0', '\r', '\n'])), "{facts:?}");
    let sent = CertificateDer::from(data.to_vec());
    if let Some(question) = Question::new(&[sent.clone(), CHAIN[1].clone()], &[]) {
        let _ = (question.responder(), question.request());
    }
    let _ = Question::new(&[CHAIN[0].clone(), sent], &[]);
    let question = Question::new(&CHAIN[..], &[]).expect("our own");
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
    assert!(question.judge(data, None, now).is_err());
}

fn samples() -> Vec<Vec<u8>> {
    let refused = b"\x30\x03\x0a\x01\x06".to_vec();
    let empty =
        b"\x30\x16\x0a\x01\x00\xa0\x11\x30\x0f\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01\x04\x02\x30\x00"
            .to_vec();
    CHAIN.iter().map(|der| der.to_vec()).chain([refused, empty]).collect()
}

const WORDS: &[&[u8]] = &[
    b"\x30\x82",
    b"\x30\x80",
    b"\x31\x00",
    b"\x02\x01\x00",
    b"\x04\x00",
    b"\x03\x01\x00",
    b"\xa0\x00",
    b"\xa3\x02",
    b"\x0c\x01\0",
    b"\x1e\x02\xd8\x00",
    b"\x06\x03\x55\x04\x03",
    b"\x17\x0d991231235959Z",
    b"\x18\x0f99991231235959Z",
    b"\xff\xff\xff\xff",
    b"\x84\xff\xff\xff\xff",
    b"\x05\x00",
];
