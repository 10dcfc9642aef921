//! `ssl_certificate` and its key with variables: read for each handshake, or kept by `ssl_certificate_cache`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ::tls::cache::{Cache, Names};
use ::tls::config::certificates::{Certificates, Pair};
use ::tls::config::{Server, ServerConfig, own_sessions};
use http::config::{Install, LateConfig, LateName, LateTls};
use http::{Request, Template};

use super::{Conf, Source};

/// Whether a certificate or key of a server has variables: then all of its pairs are read at handshakes.
pub(super) fn varies(conf: &Conf) -> bool {
    conf.certificates.iter().chain(&conf.keys).any(|source| source.template.is_some())
}

/// The certificates of one server.
#[derive(Debug)]
pub(super) struct Late(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    names: Vec<LateName>,
    passwords: Vec<Vec<u8>>,
    cache: Option<Arc<Cache>>,
    /// All but the certificates.
    settings: Server,
    /// What was built for pairs that the cache still has.
    built: Mutex<HashMap<Vec<Names>, Built>>,
}

#[derive(Debug)]
struct Built {
    pairs: Vec<Arc<Pair>>,
    config: Arc<ServerConfig>,
}

/// Configurations kept at most; they are small beside the pairs in them.
const BUILT_MAX: usize = 256;

impl Late {
    pub(super) fn new(
        conf: &Conf,
        mut settings: Server,
        passwords: Vec<Vec<u8>>,
        install: &Install<'_>,
    ) -> Late {
        if settings.early_data && settings.sessions.is_none() {
            settings.sessions = Some(own_sessions());
        }
        let template = |source: &Source| match &source.template {
            Some(template) => template.clone(),
            None => Template::literal(source.text.as_bytes()),
        };
        let dir = &install.prefixes().conf;
        let name =
            |(certificate, key)| LateName::new(template(certificate), template(key), dir, install.world());
        let names = conf.certificates.iter().zip(&conf.keys).map(name).collect();
        let cache = conf.certificate_cache.clone().flatten();
        Late(Arc::new(Shared { names, passwords, cache, settings, built: Mutex::default() }))
    }
}

impl LateTls for Late {
    fn config(&self, request: &mut Request) -> LateConfig {
        let names: Vec<Names> = self.0.names.iter().map(|name| name.names(request)).collect();
        let shared = self.0.clone();
        Box::pin(async move { shared.config(names).await })
    }
}

impl Shared {
    async fn config(&self, names: Vec<Names>) -> Result<Arc<ServerConfig>, String> {
        let mut pairs = Vec::with_capacity(names.len());
        for (files, names) in self.names.iter().zip(&names) {
            pairs.push(files.load(names, &self.passwords, self.cache.as_deref()).await?);
        }
        if self.cache.is_none() {
            return self.build(&pairs);
        }
        {
            let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
            let same =
                |built: &&Built| built.pairs.iter().zip(&pairs).all(|(one, other)| Arc::ptr_eq(one, other));
            if let Some(built) = built.get(&names).filter(same) {
                return Ok(built.config.clone());
            }
        }
        let config = self.build(&pairs)?;
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if built.len() >= BUILT_MAX {
            built.clear();
        }
        built.insert(names, Built { pairs, config: config.clone() });
        Ok(config)
    }

    fn build(&self, pairs: &[Arc<Pair>]) -> Result<Arc<ServerConfig>, String> {
        let certificates = Arc::new(Certificates::shared(pairs.iter().cloned()));
        // What it warns of was said when the configuration was read.
        ::tls::config::server(&Server { certificates, ..self.settings.clone() }).map(|built| built.config)
    }
}
