//! The certificate all proxies show: ECDSA with P-256, made for this run.

use std::fs;
use std::io;
use std::path::Path;

use crate::load::NAME;

/// A certificate signed by itself, and its key, as PEM.
pub(crate) struct Certificate {
    certificate: String,
    key: String,
}

impl Certificate {
    /// A new one.
    pub(crate) fn new() -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
        Ok(Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }

    /// Puts it where the configurations name it: `cert.pem`, `key.pem`, and `both.pem` for those that want one file.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        fs::write(dir.join("cert.pem"), &self.certificate)?;
        fs::write(dir.join("key.pem"), &self.key)?;
        fs::write(dir.join("both.pem"), format!("{}{}", self.certificate, self.key))
    }
}
