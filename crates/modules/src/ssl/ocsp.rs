//! `ssl_ocsp`: clients' certificates are asked about at their responders before a request of theirs is served.
//!
//! A handshake waits for the answer, its worker does not. Without an answer there is no trust: the client is refused as one
//! whose certificate is revoked.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use ::tls::config::verify::{Reason, Trust};
use ::tls::files::digest;
use ::tls::ocsp::{Judged, Question, Status};
use http::config::{CheckingStatus, ClientStatus};
use http::log::{ErrorLog, Level};
use rustls::pki_types::{CertificateDer, UnixTime};

use super::stapling::{Responder, TIMEOUT, ask, now_s, words};

/// Questions on their way at once. More are only where a responder hangs, and then there is no answer to wait for; the other
/// work that threads are for must not stand behind them.
const QUESTIONS_MAX: usize = 32;
static QUESTIONS: AtomicUsize = AtomicUsize::new(0);

/// What an entry of a cache takes, about.
const ENTRY_BYTES: usize = 160;
/// How long an answer that does not say it is good for, in seconds.
const AGE_MAX_S: u64 = 3600;

const FAILED: Reason = Reason::without_code("certificate status request failed");
const REVOKED: Reason = Reason::without_code("certificate revoked");
const UNKNOWN: Reason = Reason::without_code("certificate status unknown");

/// How clients of one server are asked about.
#[derive(Debug)]
pub(super) struct Asking {
    /// `leaf`: the client's certificate alone, not those between it and the root.
    pub(super) leaf_only: bool,
    /// `ssl_ocsp_responder`: instead of those in the certificates.
    pub(super) responder: Option<Responder>,
    pub(super) cache: Option<Arc<Cache>>,
    /// Whom clients, and delegates of an issuer, must come from.
    pub(super) trust: Trust,
    pub(super) log: Arc<ErrorLog>,
}

/// The settings, shared with what is on its way.
#[derive(Clone, Debug)]
pub(super) struct Ocsp(pub(super) Arc<Asking>);

impl ClientStatus for Ocsp {
    fn check(&self, chain: &[Box<[u8]>]) -> CheckingStatus {
        let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let asking = self.0.clone();
        Box::pin(async move { check(asking, chain).await })
    }
}

async fn check(asking: Arc<Asking>, chain: Vec<CertificateDer<'static>>) -> Result<(), Reason> {
    let questions = Question::of_client(&chain, &asking.trust, UnixTime::now()).ok_or(FAILED)?;
    let count = if asking.leaf_only { 1 } else { questions.len() };
    for question in questions.into_iter().take(count) {
        let key = question.request().map(|request| digest(&request)).ok_or(FAILED)?;
        let known = asking.cache.as_ref().and_then(|cache| cache.find(&key, now_s()));
        let status = match known {
            Some(status) => status,
            None => {
                let judged = put(&asking, question).await.ok_or(FAILED)?;
                if let Some(cache) = &asking.cache {
                    let until_s = judged.until_s.unwrap_or(now_s() + AGE_MAX_S);
                    cache.keep(key, judged.status, until_s, now_s());
                }
                judged.status
            }
        };
        match status {
            Status::Good => {}
            Status::Revoked => return Err(REVOKED),
            Status::Unknown => return Err(UNKNOWN),
        }
    }
    Ok(())
}

/// Asks on a thread, which may wait for whatever a responder does.
async fn put(asking: &Arc<Asking>, question: Question) -> Option<Judged> {
    let permit = Permit::new()?;
    let asking = asking.clone();
    let asked = reactor::blocking(move || {
        let _permit = permit;
        asking.put(&question)
    });
    asked.await.ok().flatten()
}

/// One question on its way.
struct Permit;

impl Permit {
    fn new() -> Option<Permit> {
        let may = |count: usize| (count < QUESTIONS_MAX).then_some(count + 1);
        QUESTIONS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may).is_ok().then_some(Permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        QUESTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Asking {
    fn put(&self, question: &Question) -> Option<Judged> {
        let responder = match &self.responder {
            Some(responder) => Ok(responder.clone()),
            None => match question.responder() {
                Some(url) => Responder::parse(&url),
                None => Err("no OCSP responder URL in certificate"),
            },
        };
        let complain = |why: String, host: &str| {
            let text = format_args!("{why} while requesting certificate status, responder: {host}");
            self.log.write(Level::Error, text);
        };
        let responder = responder.map_err(|why| complain(why.to_owned(), "")).ok()?;
        let judged = question
            .request()
            .ok_or_else(|| "i2d_OCSP_REQUEST() failed".to_owned())
            .and_then(|request| {
                ask(&responder, &request, Instant::now() + TIMEOUT).map_err(|error| words(&error))
            })
            .and_then(|answer| question.judge(&answer, Some(&self.trust), UnixTime::now()));
        judged.map_err(|why| complain(why, &responder.host)).ok()
    }
}

/// `ssl_ocsp_cache shared:name:size`: what is known of certificates, the oldest forgotten first.
#[derive(Debug)]
pub(super) struct Cache {
    entries_max: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    known: HashMap<[u8; 32], (Status, u64)>,
    /// In the order they came.
    order: VecDeque<[u8; 32]>,
}

/// Caches by name: they outlive configurations (D8).
static SHARED: Mutex<Vec<(String, usize, Weak<Cache>)>> = Mutex::new(Vec::new());

impl Cache {
    pub(super) fn shared(name: &str, bytes: usize) -> Arc<Cache> {
        let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, _, cache)| cache.strong_count() > 0);
        let found = all.iter().find(|(known, size, _)| known == name && *size == bytes);
        if let Some(cache) = found.and_then(|(_, _, cache)| cache.upgrade()) {
            return cache;
        }
        let cache = Arc::new(Cache { entries_max: (bytes / ENTRY_BYTES).max(1), entries: Mutex::default() });
        all.push((name.to_owned(), bytes, Arc::downgrade(&cache)));
        cache
    }

    fn find(&self, key: &[u8; 32], now_s: u64) -> Option<Status> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.known.get(key).filter(|(_, until_s)| *until_s > now_s).map(|(status, _)| *status)
    }

    fn keep(&self, key: [u8; 32], status: Status, until_s: u64, now_s: u64) {
        if until_s <= now_s {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.known.insert(key, (status, until_s)).is_none() {
            entries.order.push_back(key);
        }
        while entries.known.len() > self.entries_max {
            let Some(oldest) = entries.order.pop_front() else { break };
            entries.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_forgets_what_is_over_and_does_not_grow() {
        let cache = Cache { entries_max: 2, entries: Mutex::default() };
        let check = |key: u8, now, expected| assert_eq!(cache.find(&[key; 32], now), expected, "{key}");
        cache.keep([1; 32], Status::Good, 100, 10);
        cache.keep([2; 32], Status::Revoked, 100, 10);
        cache.keep([3; 32], Status::Good, 10, 10);
        check(1, 99, Some(Status::Good));
        check(1, 100, None);
        check(2, 50, Some(Status::Revoked));
        check(3, 5, None);
        cache.keep([1; 32], Status::Unknown, 200, 100);
        check(1, 150, Some(Status::Unknown));
        cache.keep([4; 32], Status::Good, 200, 100);
        check(1, 150, None);
        check(2, 50, Some(Status::Revoked));
        let one = Cache::shared("x", 40_000);
        assert!(Arc::ptr_eq(&one, &Cache::shared("x", 40_000)));
        assert!(!Arc::ptr_eq(&one, &Cache::shared("x", 50_000)));
    }
}
