//! Keys encrypted the way OpenSSL did before PKCS#8: a `DEK-Info` header names the cipher, and one round of MD5 makes the key.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use md5::{Digest, Md5};

/// Decrypts what a `DEK-Info` header describes (`AES-256-CBC,0123...`). Nothing if the cipher is unknown or the password is
/// not the one.
pub(super) fn decrypt(dek_info: &str, password: &[u8], encrypted: &[u8]) -> Option<Vec<u8>> {
    let (cipher, iv) = dek_info.split_once(',')?;
    let iv = unhex(iv.trim())?;
    match cipher.trim() {
        "AES-128-CBC" => run::<cbc::Decryptor<aes::Aes128>>(16, &iv, password, encrypted),
        "AES-192-CBC" => run::<cbc::Decryptor<aes::Aes192>>(24, &iv, password, encrypted),
        "AES-256-CBC" => run::<cbc::Decryptor<aes::Aes256>>(32, &iv, password, encrypted),
        "DES-EDE3-CBC" => run::<cbc::Decryptor<des::TdesEde3>>(24, &iv, password, encrypted),
        "DES-CBC" => run::<cbc::Decryptor<des::Des>>(8, &iv, password, encrypted),
        _ => None,
    }
}

fn run<C: KeyIvInit + BlockModeDecrypt>(
    key_bytes: usize,
    iv: &[u8],
    password: &[u8],
    encrypted: &[u8],
) -> Option<Vec<u8>> {
    let key = key(key_bytes, iv.get(..SALT_BYTES)?, password);
    let cipher = C::new_from_slices(&key, iv).ok()?;
    let mut text = encrypted.to_vec();
    cipher.decrypt_padded::<Pkcs7>(&mut text).map(<[u8]>::to_vec).ok()
}

/// As much of the initialisation vector as goes into the key.
const SALT_BYTES: usize = 8;

/// `EVP_BytesToKey` with MD5 and one round.
fn key(bytes: usize, salt: &[u8], password: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    let mut last = Vec::new();
    while key.len() < bytes {
        last = Md5::new().chain_update(&last).chain_update(password).chain_update(salt).finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(bytes);
    key
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}
