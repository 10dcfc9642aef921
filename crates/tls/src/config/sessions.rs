//! What is kept of sessions so that they can be taken up again: a store that all workers share (`ssl_session_cache`), and
//! the keys of tickets (`ssl_session_tickets`, `ssl_session_ticket_key`).
//!
//! Both may serve many servers. A session carries the [`Context`] of the server it began with and is good there alone: what
//! one server has verified, another may not believe.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::cipher::{
    AES_128, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hmac, iv, rand};
use rustls::server::{ProducesTickets, StoresServerSessions};

/// What must be the same for a session to be taken up: a digest of certificates and of whom to trust.
pub type Context = [u8; 32];

/// Sessions of all workers, oldest forgotten first when there are too many.
#[derive(Debug)]
pub struct Store {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes_max: usize,
}

/// So many locks, each held for the time of a lookup.
const SHARDS: usize = 16;

/// What an entry costs besides its bytes: tables and allocations.
const ENTRY_BYTES: usize = 160;

#[derive(Debug, Default)]
struct Shard {
    sessions: HashMap<Box<[u8]>, Session>,
    /// Keys in the order they came, with the number of each; one that was taken or replaced stays until its turn.
    order: VecDeque<(Box<[u8]>, u64)>,
    bytes: usize,
    count: u64,
}

#[derive(Debug)]
struct Session {
    value: Vec<u8>,
    number: u64,
    expires: Instant,
}

impl Store {
    /// A store that takes about `bytes` of memory (`shared:name:size`).
    pub fn new(bytes: usize) -> Store {
        Store { shards: Default::default(), shard_bytes_max: bytes / SHARDS }
    }

    fn put(&self, key: Box<[u8]>, value: Vec<u8>, timeout: Duration, now: Instant) -> bool {
        let cost = 2 * key.len() + value.len() + ENTRY_BYTES;
        if cost > self.shard_bytes_max {
            return false;
        }
        let mut shard = self.shard(&key);
        while shard.bytes + cost > self.shard_bytes_max || shard.order.len() >= 2 * shard.sessions.len() + 16
        {
            shard.forget_oldest();
        }
        shard.count += 1;
        let number = shard.count;
        shard.remove(&key);
        shard.bytes += cost;
        shard.order.push_back((key.clone(), number));
        shard.sessions.insert(key, Session { value, number, expires: now + timeout });
        true
    }

    fn with<T>(&self, key: &[u8], now: Instant, found: impl FnOnce(&mut Shard, Vec<u8>) -> T) -> Option<T> {
        let mut shard = self.shard(key);
        let session = shard.sessions.get(key).filter(|session| session.expires > now)?;
        let value = session.value.clone();
        Some(found(&mut shard, value))
    }

    fn shard(&self, key: &[u8]) -> std::sync::MutexGuard<'_, Shard> {
        // Ids are random, but not all that a client sends is an id of ours: any byte will do.
        let number = key.last().map_or(0, |byte| usize::from(*byte) % SHARDS);
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions that are kept.
    pub fn len(&self) -> usize {
        let locked = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        locked.map(|shard| shard.sessions.len()).sum()
    }

    /// Whether no session is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    fn remove(&mut self, key: &[u8]) {
        if let Some(session) = self.sessions.remove(key) {
            self.bytes -= 2 * key.len() + session.value.len() + ENTRY_BYTES;
        }
    }

    fn forget_oldest(&mut self) {
        let Some((key, number)) = self.order.pop_front() else { return };
        if self.sessions.get(&key).is_some_and(|session| session.number == number) {
            self.remove(&key);
        }
    }
}

/// A store as one server sees it.
#[derive(Debug)]
pub(super) struct StoreView {
    pub(super) store: Arc<Store>,
    pub(super) context: Context,
    pub(super) timeout: Duration,
}

impl StoreView {
    fn key(&self, id: &[u8]) -> Box<[u8]> {
        // Half a digest is enough to keep servers apart.
        [&self.context[..16], id].concat().into_boxed_slice()
    }
}

impl StoresServerSessions for StoreView {
    fn put(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        self.store.put(self.key(&id), value, self.timeout, Instant::now())
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.store.with(&self.key(id), Instant::now(), |_, value| value)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        let key = self.key(id);
        self.store.with(&key, Instant::now(), |shard, value| {
            shard.remove(&key);
            value
        })
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Keys that tickets are encrypted with, for all servers that have none of their own, or those of one server
/// (`ssl_session_ticket_key`).
#[derive(Debug)]
pub struct TicketKeys {
    /// The first one encrypts; the others are known still.
    keys: RwLock<Vec<Arc<TicketKey>>>,
}

/// A key as it is in a file: name, HMAC key, AES-256 key.
pub type KeyBytes = [u8; 80];

/// A key that nobody knows.
///
/// # Errors
/// `None` when the system has no randomness.
pub fn random_key() -> Option<KeyBytes> {
    let mut bytes = [0; 80];
    rand::fill(&mut bytes).ok().map(|()| bytes)
}

/// A key as OpenSSL and nginx lay it out: name, then HMAC and AES in two sizes.
struct TicketKey {
    name: [u8; 16],
    authenticate: hmac::Key,
    encrypt: PaddedBlockEncryptingKey,
    decrypt: PaddedBlockDecryptingKey,
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKey")
    }
}

impl TicketKeys {
    /// From the contents of key files, 48 or 80 bytes each; the first encrypts. The error is nginx's words.
    pub fn from_files(files: &[(&str, &[u8])]) -> Result<TicketKeys, String> {
        let keys = files.iter().map(|(name, bytes)| {
            TicketKey::new(bytes).map(Arc::new).ok_or_else(|| format!("\"{name}\" must be 48 or 80 bytes"))
        });
        Ok(TicketKeys { keys: RwLock::new(keys.collect::<Result<_, _>>()?) })
    }

    /// One that nobody else knows, and that lives no longer than this.
    pub fn random() -> TicketKeys {
        TicketKeys::given(random_key().as_slice())
    }

    /// From somebody who keeps them and renews them; the first encrypts.
    pub fn given(keys: &[KeyBytes]) -> TicketKeys {
        TicketKeys { keys: RwLock::new(read(keys)) }
    }

    /// Those are the keys from now on.
    pub fn replace(&self, keys: &[KeyBytes]) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = read(keys);
    }

    fn current(&self) -> Option<Arc<TicketKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    fn named(&self, name: &[u8]) -> Option<Arc<TicketKey>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|key| key.name == name).cloned()
    }
}

fn read(keys: &[KeyBytes]) -> Vec<Arc<TicketKey>> {
    keys.iter().filter_map(|bytes| TicketKey::new(bytes)).map(Arc::new).collect()
}

impl TicketKey {
    fn new(bytes: &[u8]) -> Option<TicketKey> {
        let (algorithm, size): (&'static Algorithm, usize) = match bytes.len() {
            48 => (&AES_128, 16),
            80 => (&AES_256, 32),
            _ => return None,
        };
        let (name, keys) = bytes.split_at(16);
        let (authenticate, encrypt) = keys.split_at(size);
        let unbound = || UnboundCipherKey::new(algorithm, encrypt).ok();
        Some(TicketKey {
            name: name.try_into().ok()?,
            authenticate: hmac::Key::new(hmac::HMAC_SHA256, authenticate),
            encrypt: PaddedBlockEncryptingKey::cbc_pkcs7(unbound()?).ok()?,
            decrypt: PaddedBlockDecryptingKey::cbc_pkcs7(unbound()?).ok()?,
        })
    }

    /// What the recommended construction (RFC 5077 section 4) authenticates, and the server's context.
    fn tag_of(&self, context: &Context, iv: &[u8], encrypted: &[u8]) -> hmac::Context {
        let mut tag = hmac::Context::with_key(&self.authenticate);
        for part in [&self.name[..], iv, &(encrypted.len() as u64).to_be_bytes(), encrypted, context] {
            tag.update(part);
        }
        tag
    }
}

/// Ticket keys as one server uses them.
#[derive(Debug)]
pub(super) struct Ticketer {
    pub(super) keys: Arc<TicketKeys>,
    pub(super) context: Context,
    pub(super) timeout: Duration,
}

/// A ticket carries the client's certificates; more than this is none of ours.
const TICKET_BYTES_MAX: usize = 1 << 15;

const TAG_BYTES: usize = 32;

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.timeout.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.current()?;
        let mut encrypted = [&unix_seconds().to_be_bytes()[..], plain].concat();
        let used = key.encrypt.encrypt(&mut encrypted).ok()?;
        let iv: &[u8] = (&used).try_into().ok()?;
        let tag = key.tag_of(&self.context, iv, &encrypted).sign();
        Some([&key.name[..], iv, &encrypted, tag.as_ref()].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(16)?;
        let (iv, rest) = rest.split_at_checked(16)?;
        let (encrypted, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
        let key = self.keys.named(name)?;
        let expected = key.tag_of(&self.context, iv, encrypted).sign();
        verify_slices_are_equal(expected.as_ref(), tag).ok()?;
        let mut text = encrypted.to_vec();
        let context = DecryptionContext::Iv128(iv::FixedLength::try_from(iv).ok()?);
        let (made, plain) = key.decrypt.decrypt(&mut text, context).ok()?.split_at_checked(8)?;
        let made = u64::from_be_bytes(made.try_into().ok()?);
        (unix_seconds().saturating_sub(made) <= self.timeout.as_secs()).then(|| plain.to_vec())
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_kept_for_their_time_and_their_server() {
        let store = Arc::new(Store::new(1 << 20));
        let view = |context, seconds| StoreView {
            store: store.clone(),
            context: [context; 32],
            timeout: Duration::from_secs(seconds),
        };
        let (a, b) = (view(1, 60), view(2, 60));
        assert!(a.put(b"id".to_vec(), b"session".to_vec()) && a.can_cache());
        assert_eq!((a.get(b"id"), b.get(b"id")), (Some(b"session".to_vec()), None));
        assert_eq!((a.take(b"id"), a.take(b"id"), a.get(b"id")), (Some(b"session".to_vec()), None, None));
        let gone = view(1, 0);
        assert!(gone.put(b"id".to_vec(), b"session".to_vec()));
        assert_eq!(gone.get(b"id"), None);
    }

    #[test]
    fn a_store_does_not_grow() {
        let store = Store::new(SHARDS * 10_000);
        let now = Instant::now();
        let put = |number: u32, bytes: usize| {
            store.put(number.to_be_bytes().into(), vec![0; bytes], Duration::from_secs(60), now)
        };
        assert!(!put(0, 10_000));
        (0..10_000).for_each(|number| assert!(put(number, 100)));
        let most = SHARDS * 10_000 / (100 + ENTRY_BYTES + 8);
        assert!(store.len() <= most && store.len() > most / 2, "{} of {most}", store.len());
        let find = |number: u32| store.with(&number.to_be_bytes(), now, |_, _| ()).is_some();
        assert!(find(9_999) && !find(0));
        // The same id again and again, and ids that are taken at once, leave nothing behind.
        (0..10_000).for_each(|_| assert!(put(9_999, 100)));
        for shard in &store.shards {
            let mut shard = shard.lock().unwrap();
            assert!(shard.order.len() <= 2 * shard.sessions.len() + 17);
            while !shard.order.is_empty() {
                shard.forget_oldest();
            }
            assert_eq!((shard.sessions.len(), shard.bytes), (0, 0));
        }
    }

    #[test]
    fn tickets_open_for_their_server_with_any_known_key() {
        let (old, new): (Vec<u8>, Vec<u8>) = ((0..48).collect(), (0..80).map(|byte| 255 - byte).collect());
        let ticketer = |files: &[(&str, &[u8])], context: u8, seconds| Ticketer {
            keys: Arc::new(TicketKeys::from_files(files).unwrap()),
            context: [context; 32],
            timeout: Duration::from_secs(seconds),
        };
        let before = ticketer(&[("old", &old)], 1, 60);
        let after = ticketer(&[("new", &new), ("old", &old)], 1, 60);
        let (first, second) = (before.encrypt(b"state").unwrap(), after.encrypt(b"state").unwrap());
        assert_eq!(
            (before.decrypt(&first), after.decrypt(&first)),
            (Some(b"state".to_vec()), Some(b"state".to_vec()))
        );
        assert_eq!((before.decrypt(&second), after.decrypt(&second)), (None, Some(b"state".to_vec())));
        assert_eq!(ticketer(&[("old", &old)], 2, 60).decrypt(&first), None);
        for at in 0..first.len() {
            let mut bad = first.clone();
            bad[at] ^= 1;
            assert_eq!(before.decrypt(&bad), None);
            assert_eq!(before.decrypt(&first[..at]), None);
        }
        assert_eq!(
            TicketKeys::from_files(&[("/etc/t.key", &[0; 47])]).unwrap_err(),
            "\"/etc/t.key\" must be 48 or 80 bytes"
        );
        assert_eq!((before.lifetime(), before.enabled()), (60, true));
    }

    #[test]
    fn keys_are_replaced_and_the_last_is_known() {
        let [one, two, three] = [1, 2, 3].map(|byte| [byte; 80]);
        let keys = Arc::new(TicketKeys::given(&[one]));
        let ticketer = |keys: &Arc<TicketKeys>| Ticketer {
            keys: keys.clone(),
            context: [0; 32],
            timeout: Duration::from_secs(60),
        };
        let first = ticketer(&keys).encrypt(b"state").unwrap();
        keys.replace(&[two, one]);
        let second = ticketer(&keys).encrypt(b"state").unwrap();
        assert_ne!(first[..16], second[..16]);
        // Also whoever gets the same keys later.
        for keys in [&keys, &Arc::new(TicketKeys::given(&[two, one]))] {
            assert!(ticketer(keys).decrypt(&first).is_some() && ticketer(keys).decrypt(&second).is_some());
        }
        keys.replace(&[three, two]);
        assert!(ticketer(&keys).decrypt(&first).is_none() && ticketer(&keys).decrypt(&second).is_some());
        let own = Arc::new(TicketKeys::random());
        let third = ticketer(&own).encrypt(b"state").unwrap();
        assert!(ticketer(&own).decrypt(&third).is_some() && ticketer(&keys).decrypt(&third).is_none());
        assert!(ticketer(&Arc::new(TicketKeys::given(&[]))).encrypt(b"state").is_none());
    }
}
