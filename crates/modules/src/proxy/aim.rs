//! Which group a request goes to whose URL has variables in it.

use std::sync::Arc;

use http::Request;
use http::log::Level;
use upstream::{Address, Group, Names, PeerAddr, Upstreams, group_by_name, group_of, parse_url};

use crate::proxy::Site;
use crate::proxy::pass::{Target, To, scheme};

/// The group of a URL with variables, and what `$proxy_host` says of it.
pub(super) async fn aim(site: &Site, request: &mut Request) -> Result<(Arc<Group>, Arc<Target>), u16> {
    let Some(To::Varies(template)) = site.conf.pass.as_deref().map(|pass| &pass.to) else { return Err(500) };
    let url = template.value(request);
    let (group, target) = aim_at(&url, request).await?;
    Ok((group, Arc::new(target)))
}

async fn aim_at(bytes: &[u8], request: &mut Request) -> Result<(Arc<Group>, Target), u16> {
    let url = String::from_utf8_lossy(bytes);
    let Some(scheme) = scheme(&url) else {
        request.log(Level::Error, format_args!("invalid URL prefix in \"{url}\""));
        return Err(500);
    };
    let parsed = match parse_url(&url[scheme.prefix().len()..], scheme.port()) {
        Ok(parsed) => parsed,
        Err(message) => {
            request.log(Level::Error, format_args!("{message}"));
            return Err(500);
        }
    };
    let mut target = Target::of(&parsed, scheme);
    // Its bytes as they are: only before them it must be text.
    target.uri = bytes.get(url.len() - parsed.uri.len()..).unwrap_or_default().into();
    if target.uri.starts_with(b"?") {
        // As nginx, for URLs made at run time only.
        target.uri = [b"/", &*target.uri].concat().into();
    }
    let port = match &parsed.address {
        Address::Ip(addr) => addr.port(),
        Address::Host { port, .. } => *port,
        Address::Unix(_) => 0,
    };
    let snapshot = request.snapshot.clone();
    let known = snapshot.registry.find::<Upstreams>();
    if let Some(group) = known.and_then(|known| known.find(parsed.host, port, parsed.port.is_some())) {
        return Ok((group.clone(), target));
    }
    let addr = match &parsed.address {
        Address::Ip(addr) => PeerAddr::Tcp(*addr),
        Address::Unix(path) => PeerAddr::Unix(path.clone()),
        Address::Host { name, port } => {
            let names = request.location().conf::<Names>();
            return match group_by_name(names.as_deref(), name, *port).await {
                Ok(group) => Ok((group, target)),
                Err(error) => {
                    request.log(Level::Error, format_args!("{error}"));
                    Err(502)
                }
            };
        }
    };
    group_of(parsed.host, vec![addr]).map(|group| (group, target)).ok_or(500)
}
