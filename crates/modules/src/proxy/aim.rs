//! Which group a request goes to: the one of a fixed URL, or what a URL with variables names.

use std::sync::Arc;

use http::Request;
use http::log::Level;
use upstream::{Address, Group, Names, PeerAddr, Upstreams, group_by_name, group_of, parse_url};

use crate::proxy::Site;
use crate::proxy::pass::{Target, To, scheme};

/// The group and what `$proxy_host` says of it.
pub(super) async fn aim(site: &Site, request: &mut Request) -> Result<(Arc<Group>, Target), u16> {
    match site.conf.pass.as_deref().map(|pass| &pass.to) {
        Some(To::Fixed { target, .. }) => match &site.group {
            Some(group) => Ok((group.clone(), target.clone())),
            None => Err(500),
        },
        Some(To::Varies(template)) => {
            let url = template.value(request);
            // Boxed: it may ask a resolver, for which requests to a fixed place should not carry room.
            Box::pin(aim_at(&String::from_utf8_lossy(&url), request)).await
        }
        None => Err(500),
    }
}

async fn aim_at(url: &str, request: &mut Request) -> Result<(Arc<Group>, Target), u16> {
    let Some(scheme) = scheme(url) else {
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
