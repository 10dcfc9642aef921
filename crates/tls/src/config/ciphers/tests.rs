//! Cipher strings against OpenSSL itself.

use std::process::Command;

use super::*;

/// OpenSSL's answer, of which only what rustls has counts.
fn oracle(text: &str) -> Option<Vec<String>> {
    let run = Command::new("openssl").args(["ciphers", text]).output().unwrap();
    let listed = String::from_utf8(run.stdout).unwrap();
    let ours = |name: &&str| names::CIPHERS[3..].iter().any(|(_, known)| known == name);
    run.status.success().then(|| listed.trim().split(':').filter(ours).map(str::to_owned).collect())
}

fn check(text: &str) {
    let selected = cipher_string(text);
    let chosen = selected.map(|found| {
        found.chosen.into_iter().map(|suite| names::cipher(suite).to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(chosen, oracle(text), "{text}");
}

#[test]
fn cipher_strings_select_what_openssl_selects() {
    for text in [
        "HIGH:!aNULL:!MD5",
        "HIGH:!aNULL:!MD5:!3DES:@STRENGTH",
        "ALL",
        "DEFAULT",
        "DEFAULT:!AES128",
        "DEFAULT:@SECLEVEL=0",
        "DEFAULT@SECLEVEL=1",
        "ALL:!ADH:!LOW:!EXP:!MD5:@STRENGTH",
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
         ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
         DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305",
        "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH",
        "EECDH+ECDSA+AESGCM EECDH+aRSA+AESGCM EECDH+ECDSA+SHA384 EECDH EDH+aRSA !RC4 !aNULL !eNULL",
        "EECDH+CHACHA20:EECDH+AES128:RSA+AES128:EECDH+AES256:RSA+AES256:EECDH+3DES:RSA+3DES:!MD5",
        "ECDHE+AESGCM:CHACHA20",
        "CHACHA20:ALL:+AES256",
        "ALL:-AES256:AES256",
        "AES128:ALL:-AES128:AES128",
        "ALL:+aRSA:+AESGCM",
        "ALL:!aRSA:aRSA",
        "aRSA:@STRENGTH",
        "ECDSA",
        "RSA",
        "AES128-SHA",
        "SHA384",
        "FIPS",
        "FIPS:!AES256",
        "TLSv1.2",
        "kEECDH:!AES",
        "SUITEB128",
        "SUITEB192",
        "NOSUCH:ECDHE-RSA-AES128-GCM-SHA256",
        "NOSUCH:AES128-SHA",
        "NOSUCH",
        "!ALL",
        "ALL,!AES128",
        "kRSA+AES256:AES256",
        "ECDHE-RSA-AES128-GCM-SHA256:HIGH:!DH:!kRSA:!PSK",
    ] {
        check(text);
    }
}

#[test]
fn what_only_openssl_has_is_named() {
    let found =
        cipher_string("AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:AES128-SHA").unwrap();
    assert_eq!(found.left_out, ["AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"]);
    assert!(cipher_string("HIGH:!aNULL").unwrap().left_out.is_empty());
    assert!(cipher_string("AES128-SHA:!AES128-SHA:HIGH").unwrap().left_out.is_empty());
}

#[test]
fn ciphersuites_of_tls_1_3() {
    let named = |text: &str| {
        ciphersuites(text)
            .map(|found| (found.chosen.into_iter().map(names::cipher).collect::<Vec<_>>(), found.left_out))
    };
    assert_eq!(
        named("TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_256_GCM_SHA384"),
        Some((
            vec!["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"],
            vec!["TLS_AES_128_CCM_SHA256".to_owned()]
        ))
    );
    assert_eq!(named("TLS_NO_SUCH"), None);
    assert_eq!(named(CIPHERSUITES).map(|(chosen, _)| chosen.join(":")), Some(CIPHERSUITES.to_owned()));
}

#[test]
fn groups_by_openssl_names() {
    let named = |text: &'static str| {
        groups(text).map(|found| {
            (
                found
                    .chosen
                    .into_iter()
                    .map(|group| names::group(group.name()))
                    .collect::<Vec<_>>()
                    .join(":"),
                found.left_out.join(":"),
            )
        })
    };
    let check = |text: &'static str, chosen: &str, left_out: &str| {
        assert_eq!(named(text), Ok((chosen.to_owned(), left_out.to_owned())), "{text}");
    };
    check("auto", "X25519MLKEM768:X25519:prime256v1:secp384r1:secp521r1", "");
    check("X25519:prime256v1:secp384r1", "X25519:prime256v1:secp384r1", "");
    check("P-384:P-256:secp256r1", "secp384r1:prime256v1:prime256v1", "");
    check("secp521r1:P-521:X25519", "secp521r1:secp521r1:X25519", "");
    check("MLKEM1024:brainpoolP512r1", "MLKEM1024", "brainpoolP512r1");
    check("X448:ffdhe2048", "", "X448:ffdhe2048");
    check("?SecP256r1MLKEM768:*x25519/prime256v1:?nonsense", "SecP256r1MLKEM768:X25519:prime256v1", "");
    assert_eq!(named("X25519:nonsense"), Err("nonsense"));
    assert_eq!(named(""), Err(""));
}
