//! Questions that openssl understands, and its answers.

use std::path::PathBuf;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SerialNumber,
};

use super::*;

struct Made {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
}

fn made(name: &str, issuer: Option<&Made>, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(0x1234));
    change(&mut params);
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
        None => params.self_signed(&key),
    };
    let der = certificate.unwrap().der().clone();
    Made { params, key, der }
}

fn is_ca(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

fn may_answer(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
}

/// A directory for openssl.
struct Responder(PathBuf);

impl Responder {
    fn new(name: &str) -> Responder {
        let dir = std::env::temp_dir().join(format!("tidegate-ocsp-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Responder(dir)
    }

    /// openssl's answer, signed by `signer`.
    fn answer(
        &self,
        question: &Question,
        authority: &Made,
        signer: &Made,
        entry: &str,
        days: &str,
    ) -> Vec<u8> {
        let path = |name: &str| self.0.join(name).to_str().unwrap().to_owned();
        let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes).unwrap();
        write("request", &question.request().unwrap());
        write("index", entry.as_bytes());
        write("ca.pem", crate::files::to_pem(&authority.der).as_bytes());
        write("signer.pem", crate::files::to_pem(&signer.der).as_bytes());
        write("signer.key", signer.key.serialize_pem().as_bytes());
        let output = Command::new("openssl")
            .args(["ocsp", "-index", &path("index"), "-CA", &path("ca.pem"), "-rsigner", &path("signer.pem")])
            .args(["-rkey", &path("signer.key"), "-reqin", &path("request"), "-respout", &path("answer")])
            .args(["-ndays", days])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(path("answer")).unwrap()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const VALID: &str = "V\t401231235959Z\t\t1234\tunknown\t/CN=leaf\n";
const REVOKED: &str = "R\t401231235959Z\t200101000000Z\t1234\tunknown\t/CN=leaf\n";

#[test]
fn answers_are_judged() {
    let root = made("root", None, is_ca);
    let leaf = made("leaf", Some(&root), |params| {
        // One access description: OCSP, http://127.0.0.1:1/x
        let uri = b"http://127.0.0.1:1/x";
        let method = [0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1];
        let inner = [&method[..], &[0x86, uri.len() as u8], uri].concat();
        let outer = [&[0x30, inner.len() as u8][..], &inner].concat();
        let access = [&[0x30, outer.len() as u8][..], &outer].concat();
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access));
    });
    let chain = [leaf.der.clone(), root.der.clone()];
    let question = Question::new(&chain, &[]).unwrap();
    assert_eq!(question.responder().as_deref(), Some("http://127.0.0.1:1/x"));
    // The issuer may also be known by itself; without it there is no question.
    assert!(Question::new(&chain[..1], std::slice::from_ref(&root.der)).is_some());
    assert!(Question::new(&chain[..1], &[]).is_none());
    assert!(Question::new(&chain[..1], &[made("root", None, is_ca).der]).is_none());

    // A client's chain is asked about as it is trusted, whatever else it sends.
    let middle = made("middle", Some(&root), is_ca);
    let low = made("low", Some(&middle), |_| {});
    let trust = Trust::new(vec![root.der.clone()], &[], 1).0;
    let impostor = {
        // The same name and key, but issued by somebody else, who would answer for it.
        let (other, params) = (made("other", None, is_ca), middle.params.clone());
        let issuer = Issuer::from_params(&other.params, &other.key);
        [params.signed_by(&middle.key, &issuer).unwrap().der().clone(), other.der]
    };
    let [first, second] = impostor;
    let sent = [low.der.clone(), first, second, middle.der.clone()];
    let questions = Question::of_client(&sent, &trust, UnixTime::now()).unwrap();
    let asked: Vec<_> = questions.iter().map(|question| (&question.leaf, &question.issuer)).collect();
    let parsed = |made: &Made| Certificate::from_der(&made.der).unwrap();
    let (low, middle, top) = (parsed(&low), parsed(&middle), parsed(&root));
    assert_eq!(asked, [(&low, &middle), (&middle, &top)]);
    assert!(Question::of_client(&sent[..1], &trust, UnixTime::now()).is_none());

    let responder = Responder::new("judged");
    let now = UnixTime::now();
    let trust = Trust::new(vec![root.der.clone()], &[], 1).0;
    let nobody = Trust::new(Vec::new(), &[], 1).0;
    let check = |signer: &Made, entry: &str, verify: Option<&Trust>, expected: Result<&'static str, &str>| {
        let answer = responder.answer(&question, &root, signer, entry, "2");
        let judged = question.judge(&answer, verify, now).map(|judged| {
            let left = judged.until_s.map_or(0, |until| until.saturating_sub(now.as_secs()));
            assert!((2 * 86400 - 60..=2 * 86400 + 60).contains(&left), "{left}");
            judged.status.word()
        });
        assert_eq!(judged, expected.map_err(str::to_owned));
        answer
    };
    let good = check(&root, VALID, None, Ok("good"));
    check(&root, VALID, Some(&nobody), Ok("good"));
    check(&root, REVOKED, None, Ok("revoked"));
    check(&root, "", None, Ok("unknown"));
    let delegate = made("delegate", Some(&root), may_answer);
    check(&delegate, VALID, None, Ok("good"));
    check(&delegate, VALID, Some(&trust), Ok("good"));
    check(&delegate, VALID, Some(&nobody), Err("OCSP_basic_verify() failed"));
    let stranger = made("stranger", None, may_answer);
    check(&stranger, VALID, None, Err("OCSP_basic_verify() failed"));
    let without_right = made("other", Some(&root), |_| {});
    check(&without_right, VALID, None, Err("OCSP_basic_verify() failed"));

    // Not before its time, nor after it.
    let at = |seconds: i64| {
        let now = now.as_secs().checked_add_signed(seconds).unwrap();
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(now))
    };
    let judge = |at| question.judge(&good, None, at).map(|_| ());
    assert_eq!(judge(at(200_000)), Err("OCSP_check_validity() failed".to_owned()));
    assert_eq!(judge(at(-1000)), Err("OCSP_check_validity() failed".to_owned()));
    // Of another certificate.
    let other = made("x", Some(&root), |params| params.serial_number = Some(SerialNumber::from(0x4321)));
    let other = Question::new(&[other.der, root.der.clone()], &[]).unwrap();
    let error = other.judge(&good, None, now).unwrap_err();
    assert_eq!(error, "certificate status not found in the OCSP response");
    // "Try later", and bytes cut or changed anywhere.
    let error = question.judge(&[0x30, 3, 10, 1, 3], None, now).unwrap_err();
    assert_eq!(error, "OCSP response not successful (3: trylater)");
    for at in 0..good.len() {
        assert!(question.judge(&good[..at], None, now).is_err());
        let mut bad = good.clone();
        bad[at] ^= 1;
        let _ = question.judge(&bad, None, now);
    }
}
