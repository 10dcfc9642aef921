//! Chains that are trusted, and those that must not be.

use std::process::Command;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    NameConstraints, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateRevocationListDer;

use super::*;

/// A certificate that may issue others, or not.
struct Made {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
}

fn params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2060, 1, 1));
    params.serial_number = Some(SerialNumber::from(7));
    change(&mut params);
    params
}

fn root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let key = KeyPair::generate().unwrap();
    let params = params(name, change);
    let der = params.self_signed(&key).unwrap().der().clone();
    Made { params, key, der }
}

impl Made {
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
        let key = KeyPair::generate().unwrap();
        let params = params(name, change);
        let der =
            params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().clone();
        Made { params, key, der }
    }

    fn list(&self, serials: &[u64]) -> CertificateRevocationListDer<'static> {
        self.list_of(2021, serials)
    }

    fn list_of(&self, year: i32, serials: &[u64]) -> CertificateRevocationListDer<'static> {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(2059, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&Issuer::from_params(&self.params, &self.key)).unwrap().der().clone()
    }
}

fn is_ca(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

fn plain(_: &mut CertificateParams) {}

fn check_with(
    trusted: &[&Made],
    lists: &[CertificateRevocationListDer<'static>],
    depth: usize,
    chain: &[&Made],
    expected: &str,
) {
    let trusted = trusted.iter().map(|made| made.der.clone()).collect();
    let (trust, warnings) = Trust::new(trusted, lists, depth);
    assert_eq!(warnings, Vec::<String>::new());
    let chain: Vec<_> = chain.iter().map(|made| made.der.clone()).collect();
    // 2030
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
    let verdict = match trust.check(&chain, ID_KP_CLIENT_AUTH, now) {
        Ok(()) => "ok".to_owned(),
        Err(reason) => reason.words.to_owned(),
    };
    assert_eq!(verdict, expected);
}

#[track_caller]
fn check(trusted: &[&Made], depth: usize, chain: &[&Made], expected: &str) {
    check_with(trusted, &[], depth, chain, expected);
}

#[test]
fn chains_of_every_length() {
    let root = root("root", is_ca);
    let middle = root.issue("middle", is_ca);
    let low = middle.issue("low", is_ca);
    let (one, two, three) = (root.issue("1", plain), middle.issue("2", plain), low.issue("3", plain));
    check(&[&root], 0, &[&one], "ok");
    check(&[&root], 0, &[&two, &middle], "certificate chain too long");
    check(&[&root], 1, &[&two, &middle], "ok");
    check(&[&root], 1, &[&three, &low, &middle], "certificate chain too long");
    check(&[&root], 2, &[&three, &low, &middle], "ok");
    check(&[&root], 2, &[&three, &low], "unable to get local issuer certificate");
    check(&[&root], 2, &[&three], "unable to verify the first certificate");
    // Those above that are known count too.
    check(&[&root, &middle], 0, &[&two], "certificate chain too long");
    check(&[&root, &middle], 1, &[&two], "ok");
    check(&[&root, &middle, &low], 1, &[&three], "certificate chain too long");
    check(&[&middle], 0, &[&two], "ok");
    // A peer that could issue others.
    check(&[&root], 1, &[&middle], "ok");
    check(&[&root], 0, &[&low, &middle], "certificate chain too long");
    check(&[&root], 1, &[&low, &middle], "ok");
    check(&[&root], 2, &[&low.issue("4", is_ca), &low, &middle], "ok");
    check(&[&root], 2, &[&low.issue("4", is_ca), &two, &low, &one, &middle], "ok");
    check(&[&root], 2, &[&low.issue("4", is_ca), &middle], "unable to verify the first certificate");
    check(&[&root, &middle], 0, &[&low], "certificate chain too long");
    check(&[&root, &middle], 1, &[&low], "ok");
    check(&[&root], 1, &[&root], "ok");
}

#[test]
fn who_may_issue() {
    let pinned = root("pinned", plain);
    let by_pinned = pinned.issue("x", plain);
    check(&[&pinned], 1, &[&pinned], "ok");
    check(&[&pinned], 1, &[&by_pinned], "unable to verify the first certificate");
    let no_signer = root("usage", |params| {
        is_ca(params);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    check(&[&no_signer], 1, &[&no_signer.issue("x", plain)], "unable to verify the first certificate");
    check(&[&no_signer], 1, &[&no_signer.issue("x", is_ca)], "unable to verify the first certificate");
    let old = root("old", |params| {
        is_ca(params);
        params.not_after = date_time_ymd(2025, 1, 1);
    });
    check(&[&old], 1, &[&old.issue("x", plain)], "certificate has expired");
    check(&[&old], 1, &[&old.issue("x", is_ca)], "certificate has expired");
    let short = root("short", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = short.issue("below", is_ca);
    check(&[&short], 5, &[&short.issue("x", plain)], "ok");
    check(&[&short], 5, &[&below.issue("x", plain), &below], "path length constraint exceeded");
    check(&[&short], 5, &[&below.issue("x", is_ca), &below], "path length constraint exceeded");
    let last = root("root", is_ca);
    let ends = last.issue("ends", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = ends.issue("below", is_ca);
    check(&[&last], 5, &[&below.issue("x", is_ca), &below, &ends], "path length constraint exceeded");
    check(&[&last], 5, &[&ends.issue("x", is_ca), &ends], "ok");
    let other = root("short", is_ca);
    check(&[&short], 1, &[&other.issue("x", plain)], "certificate signature failure");
    check(&[&short], 1, &[&other.issue("x", is_ca)], "unable to verify the first certificate");
}

#[test]
fn what_a_certificate_is_for() {
    let root = root("root", is_ca);
    let server_only = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
    };
    let strange = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    for also in [plain as fn(&mut CertificateParams), is_ca] {
        let with = |change: &dyn Fn(&mut CertificateParams)| {
            root.issue("x", |params| {
                also(params);
                change(params);
            })
        };
        check(&[&root], 1, &[&with(&server_only)], "unsuitable certificate purpose");
        check(&[&root], 1, &[&with(&strange)], "unhandled critical extension");
        let over = |params: &mut CertificateParams| params.not_after = date_time_ymd(2025, 1, 1);
        check(&[&root], 1, &[&with(&over)], "certificate has expired");
    }
    // Of an authority it is asked, too.
    for (change, expected) in [
        (&server_only as &dyn Fn(&mut CertificateParams), "unsuitable certificate purpose"),
        (&strange, "unhandled critical extension"),
    ] {
        let limits = |params: &mut CertificateParams| {
            is_ca(params);
            change(params);
        };
        let limited = self::root("limited", limits);
        check(&[&limited], 2, &[&limited.issue("x", plain)], expected);
        check(&[&limited], 2, &[&limited.issue("x", is_ca)], expected);
        let below = limited.issue("below", is_ca);
        check(&[&limited, &below], 2, &[&below.issue("x", plain)], expected);
        let middle = root.issue("middle", limits);
        check(&[&root], 2, &[&middle.issue("x", plain), &middle], expected);
    }
    let pinned = self::root("pinned", server_only);
    check(&[&pinned], 1, &[&pinned], "unsuitable certificate purpose");
    let limited = self::root("limited", |params| {
        is_ca(params);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("a.test".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    let named = |name: &str, ca: bool| {
        let name = name.to_owned();
        limited.issue("x", move |params| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().unwrap())];
            if ca {
                is_ca(params);
            }
        })
    };
    check(&[&limited], 1, &[&named("x.a.test", false)], "ok");
    let middle = root.issue("middle", |params| {
        is_ca(params);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
    });
    check(&[&root], 2, &[&middle.issue("leaf", plain), &middle], "invalid CA certificate");
    check(&[&limited], 1, &[&named("x.b.test", false)], "permitted subtree violation");
    check(&[&limited], 1, &[&named("x.b.test", true)], "permitted subtree violation");
}

/// Names are limited from above what is trusted first, too.
#[test]
fn name_constraints_above_a_trusted_certificate() {
    let limits = |name: &'static str| {
        move |params: &mut CertificateParams| {
            is_ca(params);
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName(name.into())],
                excluded_subtrees: Vec::new(),
            });
        }
    };
    let named = |name: &'static str| {
        move |params: &mut CertificateParams| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().unwrap())];
        }
    };
    let root = root("root", limits("test"));
    let middle = root.issue("middle", is_ca);
    let low = middle.issue("low", limits("a.test"));
    for sent in [&[][..], &[&middle], &[&low, &middle]] {
        let check = |trusted: &[&Made], depth: usize, leaf: &Made, expected: &str| {
            let chain: Vec<&Made> = [leaf].into_iter().chain(sent.iter().copied()).collect();
            check(trusted, depth, &chain, expected);
        };
        let ours = [&root, &middle];
        check(&ours, 1, &middle.issue("x", named("x.test")), "ok");
        check(&ours, 0, &middle.issue("x", named("x.test")), "certificate chain too long");
        check(&ours, 1, &middle.issue("x", named("x.other")), "permitted subtree violation");
        let ours = [&low, &root, &middle];
        check(&ours, 2, &low.issue("x", named("x.a.test")), "ok");
        check(&ours, 2, &low.issue("x", named("x.b.test")), "permitted subtree violation");
        check(&ours, 2, &low.issue("x", named("x.other")), "permitted subtree violation");
    }
    let dir = std::env::temp_dir().join(format!("tidegate-limits-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (name, expected) in [("x.test", "ok"), ("x.other", "permitted subtree violation")] {
        let leaf = middle.issue("x", named(name));
        assert_eq!(openssls(&dir, "sslclient", &root, Some(&middle), &leaf), expected);
    }
    std::fs::remove_dir_all(&dir).unwrap();
    // What is not known does not limit.
    check(&[&middle], 1, &[&middle.issue("x", named("x.other"))], "ok");
}

/// Name constraints are about alternative names; a subject stands in for one only where there are none.
#[test]
fn a_subject_is_no_way_around_name_constraints() {
    let check = |authority: &Made, leaf: &Made, expected: &str| {
        let (trust, warnings) = Trust::new(vec![authority.der.clone()], &[], 1);
        assert_eq!(warnings, [""; 0]);
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let servers = Servers { trust: Some(trust), algorithms };
        let name = ServerName::try_from("x.b.test").unwrap();
        let done = servers.verify_server_cert(&leaf.der, &[], &name, &[], UnixTime::now());
        let said = done.map_or_else(|error| error.to_string(), |_| "ok".to_owned());
        assert!(said.contains(expected), "{said}");
    };
    let free = root("free", is_ca);
    check(&free, &free.issue("x.b.test", plain), "ok");
    check(&free, &free.issue("x.c.test", plain), "Name(");
    let limited = root("limited", |params| {
        is_ca(params);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("a.test".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    check(&limited, &limited.issue("x.b.test", plain), "permitted subtree violation");
}

#[test]
fn revocation_goes_up_to_the_root() {
    let signs = |params: &mut CertificateParams| {
        is_ca(params);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    };
    let root = root("root", signs);
    let middle = root.issue("middle", |params| {
        signs(params);
        params.serial_number = Some(SerialNumber::from(9));
    });
    let leaf = middle.issue("leaf", plain);
    let may_issue = middle.issue("leaf", is_ca);
    for leaf in [&leaf, &may_issue] {
        let check = |lists: &[CertificateRevocationListDer<'static>], expected: &str| {
            check_with(&[&root, &middle], lists, 2, &[leaf], expected);
        };
        check(&[root.list(&[]), middle.list(&[])], "ok");
        check(&[root.list(&[]), middle.list(&[7])], "certificate revoked");
        check(&[root.list(&[9]), middle.list(&[])], "certificate revoked");
        // Of several the newest counts, wherever it stands.
        check(&[root.list(&[]), middle.list(&[]), middle.list_of(2022, &[7])], "certificate revoked");
        check(&[root.list(&[]), middle.list_of(2022, &[]), middle.list(&[7])], "ok");
        check(&[root.list(&[])], "unable to get certificate CRL");
        check(&[middle.list(&[])], "unable to get certificate CRL");
    }
}

/// openssl's list of version 1: the number of none is in it.
fn version_1(
    dir: &std::path::Path,
    name: &str,
    authority: &Made,
    serials: &[u64],
) -> CertificateRevocationListDer<'static> {
    let path = |end: &str| dir.join(format!("{name}.{end}")).to_str().unwrap().to_owned();
    std::fs::write(path("pem"), crate::files::to_pem(&authority.der)).unwrap();
    std::fs::write(path("key"), authority.key.serialize_pem()).unwrap();
    let entries = serials
        .iter()
        .map(|serial| format!("R\t401231235959Z\t200101000000Z\t{serial:02X}\tunknown\t/CN=x\n"));
    std::fs::write(path("index"), entries.collect::<String>()).unwrap();
    std::fs::write(
        path("conf"),
        format!("[ca]\ndefault_ca=c\n[c]\ndatabase={}\ndefault_md=sha256\n", path("index")),
    )
    .unwrap();
    let output = Command::new("openssl")
        .args(["ca", "-config", &path("conf"), "-gencrl", "-crldays", "9999", "-keyfile", &path("key")])
        .args(["-cert", &path("pem"), "-out", &path("crl")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    crate::files::revocations("crl", &std::fs::read(path("crl")).unwrap()).unwrap().remove(0)
}

#[test]
fn lists_of_version_1() {
    let dir = std::env::temp_dir().join(format!("tidegate-lists-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let root = root("root", is_ca);
    let other = self::root("root", is_ca);
    let middle = root.issue("middle", |params| {
        is_ca(params);
        params.serial_number = Some(SerialNumber::from(9));
    });
    let leaf = middle.issue("leaf", plain);
    let list = |name: &str, authority: &Made, serials: &[u64]| version_1(&dir, name, authority, serials);
    let (clean, good) = (list("a", &root, &[]), list("b", &middle, &[]));
    let check = |lists: &[CertificateRevocationListDer<'static>], expected: &str| {
        check_with(&[&root], lists, 1, &[&leaf, &middle], expected);
    };
    check(&[clean.clone(), good.clone()], "ok");
    check(&[clean.clone(), list("c", &middle, &[7])], "certificate revoked");
    check(&[list("d", &root, &[9]), good.clone()], "certificate revoked");
    check(std::slice::from_ref(&good), "unable to get certificate CRL");
    // Of both versions together, and one that another key has signed.
    check(&[root.list(&[9]), good.clone()], "certificate revoked");
    check(&[root.list(&[]), good.clone()], "ok");
    check(&[list("e", &other, &[]), good.clone()], "unable to get certificate CRL");
    std::fs::remove_dir_all(&dir).unwrap();
    // Bytes that are none, cut anywhere, are said and leave nobody trusted.
    for length in 0..good.len() {
        let (trust, warnings) = Trust::new(vec![root.der.clone()], &[good[..length].to_vec().into()], 1);
        assert_eq!(warnings.len(), 1);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        assert!(trust.check(&[leaf.der.clone(), middle.der.clone()], ID_KP_CLIENT_AUTH, now).is_err());
    }
}

/// What `openssl verify` says last, as nginx takes it, of a certificate that it is to take for a client's or a server's.
fn openssls(dir: &std::path::Path, purpose: &str, root: &Made, middle: Option<&Made>, leaf: &Made) -> String {
    let path = |end: &str| dir.join(end).to_str().unwrap().to_owned();
    let write =
        |name: &str, made: &Made| std::fs::write(path(name), crate::files::to_pem(&made.der)).unwrap();
    write("root", root);
    write("leaf", leaf);
    let mut command = Command::new("openssl");
    command.args(["verify", "-purpose", purpose, "-attime", "1900000000", "-no-CApath", "-no-CAstore"]);
    command.args(["-CAfile", &path("root")]);
    if let Some(middle) = middle {
        write("middle", middle);
        command.args(["-untrusted", &path("middle")]);
    }
    let output = command.arg(path("leaf")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let errors = said.lines().filter(|line| line.starts_with("error ") && line.contains(" depth lookup: "));
    let last = errors.filter_map(|line| line.split_once(" depth lookup: ")).next_back();
    last.map_or("ok".to_owned(), |(_, words)| words.to_owned())
}

type Change = Box<dyn Fn(&mut CertificateParams)>;

/// Extended and plain usages, Netscape's types and critical extensions, at every place of a chain, beside OpenSSL.
#[test]
fn purposes_are_openssls() {
    let dir = std::env::temp_dir().join(format!("tidegate-purposes-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let extended = |one: ExtendedKeyUsagePurpose| -> Change {
        Box::new(move |params| params.extended_key_usages = vec![one.clone()])
    };
    let usage = |one: KeyUsagePurpose| -> Change {
        Box::new(move |params| {
            params.key_usages = vec![one];
            if matches!(params.is_ca, IsCa::Ca(_)) {
                params.key_usages.push(KeyUsagePurpose::KeyCertSign);
            }
        })
    };
    let critical = |oid: &'static [u64], value: &'static [u8]| -> Change {
        Box::new(move |params| {
            let mut extension = CustomExtension::from_oid_content(oid, value.to_vec());
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        })
    };
    const CERTIFICATE_TYPE: &[u64] = &[2, 16, 840, 1, 113730, 1, 1];
    let changes = [
        Box::new(plain) as Change,
        extended(ExtendedKeyUsagePurpose::ClientAuth),
        extended(ExtendedKeyUsagePurpose::ServerAuth),
        extended(ExtendedKeyUsagePurpose::Any),
        extended(ExtendedKeyUsagePurpose::OcspSigning),
        extended(ExtendedKeyUsagePurpose::Other(vec![2, 16, 840, 1, 113730, 4, 1])),
        extended(ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 311, 10, 3, 3])),
        usage(KeyUsagePurpose::DigitalSignature),
        usage(KeyUsagePurpose::KeyAgreement),
        usage(KeyUsagePurpose::KeyEncipherment),
        usage(KeyUsagePurpose::DataEncipherment),
        critical(CERTIFICATE_TYPE, &[3, 2, 7, 0x80]),
        critical(CERTIFICATE_TYPE, &[3, 2, 6, 0x40]),
        critical(CERTIFICATE_TYPE, &[3, 2, 2, 0x04]),
        critical(&[1, 3, 6, 1, 4, 1, 99999, 1], &[5, 0]),
        // Policies: any.
        critical(&[2, 5, 29, 32], &[0x30, 6, 0x30, 4, 6, 2, 0x2a, 3]),
        critical(&[2, 5, 29, 54], &[2, 1, 0]),
    ];
    let root = root("root", is_ca);
    let middle = root.issue("middle", is_ca);
    let mut wrong = Vec::new();
    for (number, change) in changes.iter().enumerate() {
        let issuer = |params: &mut CertificateParams| {
            is_ca(params);
            change(params);
        };
        let (own, between) = (self::root("own", issuer), root.issue("between", issuer));
        let rows = [
            (&root, None, root.issue("leaf", |params| change(params))),
            (&root, None, root.issue("leaf", issuer)),
            (&root, Some(&middle), middle.issue("leaf", |params| change(params))),
            (&root, Some(&middle), middle.issue("leaf", issuer)),
            (&own, None, own.issue("leaf", plain)),
            (&root, Some(&between), between.issue("leaf", plain)),
        ];
        for (at, (root, middle, leaf)) in rows.iter().enumerate() {
            for (name, purpose) in [("sslclient", ID_KP_CLIENT_AUTH), ("sslserver", ID_KP_SERVER_AUTH)] {
                let (trust, _) = Trust::new(vec![root.der.clone()], &[], 2);
                let chain: Vec<_> = [leaf].into_iter().chain(*middle).map(|made| made.der.clone()).collect();
                let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
                let ours = trust.check(&chain, purpose, now).map_or_else(|why| why.words, |()| "ok");
                let theirs = openssls(&dir, name, root, *middle, leaf);
                if ours != theirs {
                    wrong.push(format!("change {number}, row {at}, {name}: {ours}, openssl: {theirs}"));
                }
            }
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(wrong, [""; 0]);
}

/// What openssl makes of an authority and a request without extensions.
fn version_1_of(dir: &std::path::Path, authority: &Made) -> Made {
    let path = |end: &str| dir.join(end).to_str().unwrap().to_owned();
    std::fs::write(path("ca"), crate::files::to_pem(&authority.der)).unwrap();
    std::fs::write(path("ca.key"), authority.key.serialize_pem()).unwrap();
    let (params, key) = (CertificateParams::new(Vec::new()).unwrap(), KeyPair::generate().unwrap());
    std::fs::write(path("csr"), params.serialize_request(&key).unwrap().pem().unwrap()).unwrap();
    let output = Command::new("openssl")
        .args(["x509", "-req", "-in", &path("csr"), "-CA", &path("ca"), "-CAkey", &path("ca.key")])
        .args(["-set_serial", "8", "-days", "9999", "-outform", "DER", "-out", &path("der")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Made { params, key, der: std::fs::read(path("der")).unwrap().into() }
}

/// Whoever holds a certificate that may sign others, and does not say that it is an authority, cannot make identities.
#[test]
fn signing_makes_no_authority() {
    let dir = std::env::temp_dir().join(format!("tidegate-signers-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let root = root("root", is_ca);
    let signs = |params: &mut CertificateParams| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    };
    let signs_only = root.issue("signs only", signs);
    let authority = root.issue("authority", |params| {
        signs(params);
        is_ca(params);
    });
    for (middle, expected) in [(&signs_only, "invalid CA certificate"), (&authority, "ok")] {
        let leaves = [middle.issue("leaf", plain), middle.issue("leaf", is_ca), version_1_of(&dir, middle)];
        for (at, leaf) in leaves.iter().enumerate() {
            assert_eq!(openssls(&dir, "sslclient", &root, Some(middle), leaf), expected, "leaf {at}");
            check(&[&root], 2, &[leaf, middle], expected);
            // Nor if it is trusted itself, below another that is.
            check(&[&root, middle], 2, &[leaf], expected);
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
