//! Files whose names are known when a request or handshake comes: certificates and keys with variables in their names.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};
use tls::cache::{Cache, Found, Names};
use tls::config::certificates::Pair;
use tls::files::{self, Kind};

use crate::config::{Line, Problem, World};
use crate::message::Request;
use crate::template::{Template, TemplatePart};

/// A file's content that is on its way.
pub type Reading = Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + Send>>;

/// Reads files while the configuration serves. The serving process has no right to a key; it asks the monitor, who opens
/// what fits a [`FilePattern`] of the configuration and nothing else.
pub trait LateFiles: Send + Sync + fmt::Debug {
    /// The content of a file by its full name.
    fn read(&self, path: &Path) -> Reading;
}

/// With the rights of this process.
#[derive(Debug)]
pub struct OwnRights;

impl LateFiles for OwnRights {
    fn read(&self, path: &Path) -> Reading {
        Box::pin(std::future::ready(read_regular(path)))
    }
}

/// The longest file that is read while the configuration serves, in bytes: more than any chain of certificates.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Reads a file whose name a client may have had a part in: a regular one, and not too large. A pipe holds nobody.
///
/// # Errors
/// The kernel's; `InvalidInput` for what is no regular file, `FileTooLarge`.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

/// Which files a name with variables may lead to: the text around the variables, each of which stands for part of one
/// name, never for a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePattern {
    /// What stands before, between and behind the variables; a name without any is one text.
    pub texts: Vec<String>,
}

impl FilePattern {
    /// The pattern of a template with variables; relative names begin in `dir`. None when the text is in the configuration
    /// itself (`data:`).
    pub fn new(template: &Template, dir: &Path) -> Option<FilePattern> {
        let mut texts = vec![String::new()];
        for part in template.parts() {
            match (part, texts.last_mut()) {
                (TemplatePart::Text(text), Some(last)) => last.push_str(std::str::from_utf8(text).ok()?),
                _ => texts.push(String::new()),
            }
        }
        if texts[0].starts_with("data:") {
            return None;
        }
        if !texts[0].starts_with('/') {
            let dir = dir.to_str()?;
            texts[0] = format!("{}/{}", dir.trim_end_matches('/'), texts[0]);
        }
        Some(FilePattern { texts })
    }

    /// Whether a file's full name fits.
    pub fn matches(&self, path: &Path) -> bool {
        let Some(text) = path.to_str() else { return false };
        let (first, between, last) = match &self.texts[..] {
            [] => return false,
            [whole] => return text == whole,
            [first, between @ .., last] => (first, between, last),
        };
        let ups = |path: &Path| path.components().filter(|part| *part == Component::ParentDir).count();
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        for text in between {
            let Some(at) = rest.find(text.as_str()) else { return false };
            if rest[..at].contains('/') {
                return false;
            }
            rest = &rest[at + text.len()..];
        }
        let Some(rest) = rest.strip_suffix(last.as_str()) else { return false };
        // What the variables add is no step out of a directory.
        !rest.contains('/') && !text.contains('\0') && ups(path) == ups(Path::new(&self.texts.join("x")))
    }
}

/// A certificate and its key, as a directive names them.
#[derive(Clone, Debug)]
pub struct LateName {
    certificate: Template,
    key: Template,
    certificates: Arc<dyn LateFiles>,
    keys: Arc<dyn LateFiles>,
    /// Relative names begin here.
    dir: PathBuf,
}

impl LateName {
    /// A pair of which at least one name varies.
    pub fn new(certificate: Template, key: Template, dir: &Path, world: &dyn World) -> LateName {
        let files = |template: &Template| match FilePattern::new(template, dir) {
            Some(pattern) => world.late_files(pattern),
            None => Arc::new(OwnRights) as Arc<dyn LateFiles>,
        };
        let (certificates, keys) = (files(&certificate), files(&key));
        LateName { certificate, key, certificates, keys, dir: dir.to_owned() }
    }

    /// The names for one request: full, or `data:` and the text itself. An empty one stays empty.
    pub fn names(&self, request: &mut Request) -> Names {
        let mut full = |template: &Template| -> Box<str> {
            let name = template.value(request);
            let name = String::from_utf8_lossy(&name);
            match name.is_empty() || files::inline(&name).is_some() {
                true => (*name).into(),
                false => self.dir.join(&*name).to_string_lossy().into(),
            }
        };
        (full(&self.certificate), full(&self.key))
    }

    /// Reads a pair, or takes it from the cache.
    ///
    /// # Errors
    /// nginx's words for a file that is of no use.
    pub async fn load(
        &self,
        names: &Names,
        passwords: &[Vec<u8>],
        cache: Option<&Cache>,
    ) -> Result<Arc<Pair>, String> {
        let found = cache.map_or(Found::Nothing, |cache| cache.find(names, Instant::now()));
        if let Found::Fresh(pair) = found {
            return Ok(pair);
        }
        let read = self.read(names, passwords, &found).await;
        if let Some(cache) = cache {
            match &read {
                Ok((pair, Some(hash))) => cache.keep(names.clone(), pair.clone(), *hash, Instant::now()),
                _ => cache.forget(names),
            }
        }
        read.map(|(pair, _)| pair)
    }

    /// The pair, and the hash of its files if it may be kept.
    async fn read(
        &self,
        (name, key_name): &Names,
        passwords: &[Vec<u8>],
        found: &Found,
    ) -> Result<(Arc<Pair>, Option<u64>), String> {
        let words = |error: files::FileError| error.to_string();
        let certificate = content(name, Kind::Certificate, &*self.certificates).await?;
        let chain = files::certificates(shown(name), &certificate).map_err(words)?;
        let key = content(key_name, Kind::Key, &*self.keys).await?;
        let hash = KEYED.hash_one((&certificate, &key));
        match found {
            Found::Old(pair, old) if *old == hash => return Ok((pair.clone(), Some(hash))),
            _ => {}
        }
        let may_be_kept = !files::has_encrypted_key(&key);
        let key = files::key(shown(key_name), &key, passwords).map_err(words)?;
        let pair = files::pair(shown(name), chain, shown(key_name), &key).map_err(words)?;
        Ok((Arc::new(pair), may_be_kept.then_some(hash)))
    }
}

/// `..._certificate_cache off | max=N [valid=time] [inactive=time]`
///
/// # Errors
/// nginx's words.
pub fn certificate_cache(line: &Line<'_>) -> Result<Option<Arc<Cache>>, Problem> {
    let (mut max, mut valid_s, mut inactive_s, mut off) = (0, 60, 10, false);
    for index in 0..line.count() {
        let text = line.text(index);
        let invalid = || line.invalid_parameter(index);
        let time = |value: &str| conf::value::time_s(value.as_bytes()).ok_or_else(invalid);
        match text.split_once('=') {
            None if text == "off" => off = true,
            Some(("max", value)) => {
                let files = conf::value::number(value.as_bytes()).and_then(|max| usize::try_from(max).ok());
                max = files.filter(|max| *max > 0).ok_or_else(invalid)?;
            }
            Some(("valid", value)) => valid_s = time(value)?,
            Some(("inactive", value)) => inactive_s = time(value)?,
            _ => return Err(invalid()),
        }
    }
    match (off, max) {
        (true, _) => Ok(None),
        (false, 0) => Err(Problem::new(format!("\"{}\" must have the \"max\" parameter", line.name()))),
        (false, max) => {
            let seconds = Duration::from_secs;
            Ok(Some(Arc::new(Cache::new(max, seconds(valid_s), seconds(inactive_s)))))
        }
    }
}

/// Keyed, as whoever chooses a file's content must not choose its hash.
static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

async fn content(name: &str, kind: Kind, files: &dyn LateFiles) -> Result<Vec<u8>, String> {
    if let Some(text) = files::inline(name) {
        return Ok(text.as_bytes().to_vec());
    }
    if name.contains('\0') {
        return Err(files::unreadable(kind, name, &io::ErrorKind::InvalidInput.into()).to_string());
    }
    files.read(Path::new(name)).await.map_err(|error| files::unreadable(kind, name, &error).to_string())
}

/// What messages call a file; a key in the configuration itself is nobody's business.
pub fn shown(name: &str) -> &str {
    if files::inline(name).is_some() { "data:..." } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_leads_nowhere_else() {
        let check = |texts: &[&str], path: &str, expected: bool| {
            let pattern = FilePattern { texts: texts.iter().map(|text| (*text).to_owned()).collect() };
            assert_eq!(pattern.matches(Path::new(path)), expected, "{texts:?} {path}");
        };
        let one = ["/etc/ssl/", ".crt"];
        check(&one, "/etc/ssl/a.example.com.crt", true);
        check(&one, "/etc/ssl/.crt", true);
        check(&one, "/etc/ssl/a.key", false);
        check(&one, "/etc/ssl/a/b.crt", false);
        check(&one, "/etc/ssl/../shadow.crt", false);
        check(&one, "/etc/other/a.crt", false);
        check(&one, "/etc/ssl/a\0.crt", false);
        let dir = ["/etc/ssl/", "/cert.pem"];
        check(&dir, "/etc/ssl/a/cert.pem", true);
        check(&dir, "/etc/ssl/../cert.pem", false);
        check(&dir, "/etc/ssl/a/../cert.pem", false);
        check(&dir, "/etc/ssl/a/b/cert.pem", false);
        let two = ["/s/", "-", ".pem"];
        check(&two, "/s/a-b.pem", true);
        check(&two, "/s/ab.pem", false);
        check(&two, "/s/a/-b.pem", false);
        check(&["/s/../t/", ".pem"], "/s/../t/a.pem", true);
        check(&["/s/../t/", "/a.pem"], "/s/../t/../a.pem", false);
        check(&["/s/", ""], "/s/a", true);
        check(&["/s/", ""], "/s/..", false);
        check(&["/s/", ""], "/s/a/b", false);
        // The other half of a pair may have no variable.
        check(&["/s/a"], "/s/a", true);
        check(&["/s/a"], "/s/ab", false);
        check(&[], "/s/a", false);
    }
}
