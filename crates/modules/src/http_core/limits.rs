//! What one block wrote of the directives about connections, and what holds after inheritance.

use std::sync::Arc;

use http::config::{
    ErrorPage, IfModifiedSince, KeepaliveDisable, Lingering, Merge, ModuleConf, Place, Problem, ServerTokens,
    TypeTable,
};
use http::{CoreConf, Template, written};

use super::error_log::{self, Target};

/// `root` or `alias`, as written.
pub(super) struct Root {
    pub(super) path: Vec<u8>,
    pub(super) template: Option<Template>,
    pub(super) alias: Option<usize>,
}

/// What a block wrote.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) error_log: Vec<Target>,
    pub(super) root: Option<Root>,
    pub(super) default_type: Option<Vec<u8>>,
    pub(super) types: Option<TypeTable>,
    pub(super) server_tokens: Option<ServerTokens>,
    pub(super) tcp_nodelay: Option<bool>,
    pub(super) client_header_buffer_size: Option<usize>,
    pub(super) large_client_header_buffers: Option<(usize, usize)>,
    pub(super) client_header_timeout: Option<u64>,
    pub(super) client_body_timeout: Option<u64>,
    pub(super) client_max_body_size: Option<u64>,
    pub(super) client_body_buffer_size: Option<usize>,
    pub(super) send_timeout: Option<u64>,
    pub(super) limit_rate: Option<Template>,
    pub(super) limit_rate_after: Option<Template>,
    pub(super) keepalive_timeout: Option<(u64, u64)>,
    pub(super) keepalive_requests: Option<u64>,
    pub(super) keepalive_disable: Option<KeepaliveDisable>,
    pub(super) keepalive_time: Option<u64>,
    pub(super) keepalive_min_timeout: Option<u64>,
    pub(super) lingering_close: Option<Lingering>,
    pub(super) lingering_time: Option<u64>,
    pub(super) lingering_timeout: Option<u64>,
    pub(super) reset_timedout_connection: Option<bool>,
    pub(super) ignore_invalid_headers: Option<bool>,
    pub(super) underscores_in_headers: Option<bool>,
    pub(super) merge_slashes: Option<bool>,
    pub(super) max_headers: Option<usize>,
    pub(super) chunked_transfer_encoding: Option<bool>,
    pub(super) absolute_redirect: Option<bool>,
    pub(super) server_name_in_redirect: Option<bool>,
    pub(super) port_in_redirect: Option<bool>,
    pub(super) log_not_found: Option<bool>,
    pub(super) msie_padding: Option<bool>,
    pub(super) etag: Option<bool>,
    pub(super) recursive_error_pages: Option<bool>,
    pub(super) if_modified_since: Option<IfModifiedSince>,
    pub(super) max_ranges: Option<usize>,
    pub(super) internal: bool,
    pub(super) error_pages: Option<Vec<ErrorPage>>,
    pub(super) http_seen: bool,
}

impl ModuleConf for Raw {
    type Merged = CoreConf;

    fn merge(self, outer: &CoreConf, at: &mut Merge<'_>) -> Result<CoreConf, Problem> {
        let mut conf = outer.clone();
        conf.error_log = match self.error_log.is_empty() {
            true => inherited_error_log(outer, at)?,
            false => error_log::open(self.error_log, at)?,
        };
        if let Some(root) = self.root {
            (conf.root, conf.root_template, conf.alias) =
                (root.path.into(), root.template.map(Arc::new), root.alias);
        }
        if let Some(default_type) = self.default_type {
            conf.default_type = default_type.into();
        }
        if let Some(types) = self.types {
            conf.types = sorted(types);
        }
        if let Some((timeout, header)) = self.keepalive_timeout {
            (conf.keepalive_timeout, conf.keepalive_header) = (timeout, header);
        }
        if let Some(pages) = self.error_pages {
            conf.error_pages = Arc::new(pages);
        }
        conf.limit_rate = rate(self.limit_rate, &outer.limit_rate);
        conf.limit_rate_after = rate(self.limit_rate_after, &outer.limit_rate_after);
        // Not inherited by nested locations; an `if` stands in its own location.
        let inside_if = at.place == Place::LOCATION_IF || at.place == Place::LIMIT_EXCEPT;
        conf.internal = self.internal || (inside_if && outer.internal);
        written!(
            self => conf:
            server_tokens,
            tcp_nodelay,
            client_header_buffer_size,
            large_client_header_buffers,
            client_header_timeout,
            client_body_timeout,
            client_max_body_size,
            client_body_buffer_size,
            send_timeout,
            keepalive_requests,
            keepalive_disable,
            keepalive_time,
            keepalive_min_timeout,
            lingering_close,
            lingering_time,
            lingering_timeout,
            reset_timedout_connection,
            ignore_invalid_headers,
            underscores_in_headers,
            merge_slashes,
            max_headers,
            chunked_transfer_encoding,
            absolute_redirect,
            server_name_in_redirect,
            port_in_redirect,
            log_not_found,
            msie_padding,
            etag,
            recursive_error_pages,
            if_modified_since,
            max_ranges,
        );
        Ok(conf)
    }

    fn inherit(outer: &Arc<CoreConf>, at: &mut Merge<'_>) -> Arc<CoreConf> {
        if at.place == Place::MAIN || (at.place == Place::LOCATION && outer.internal) {
            // A merge of nothing: it opens the default error log, and forgets `internal`.
            return match Raw::default().merge(outer, at) {
                Ok(merged) => Arc::new(merged),
                Err(problem) => {
                    at.diagnostics.error(None, problem.message);
                    outer.clone()
                }
            };
        }
        outer.clone()
    }
}

/// The outer block's log; at the main level, where nothing is written, `-e` or the default file.
fn inherited_error_log(outer: &CoreConf, at: &Merge<'_>) -> Result<Arc<http::log::ErrorLog>, Problem> {
    if at.place != Place::MAIN {
        return Ok(outer.error_log.clone());
    }
    let file = at.open_log(&at.prefixes.error_log)?;
    Ok(Arc::new(http::log::ErrorLog::new(vec![(http::log::Level::Error, file)])))
}

/// Sorted for lookup; of two lines for one extension nginx keeps the last.
fn sorted(mut types: TypeTable) -> Arc<TypeTable> {
    types.reverse();
    types.sort_by(|a, b| a.0.cmp(&b.0));
    types.dedup_by(|later, kept| later.0 == kept.0);
    Arc::new(types)
}

/// A plain 0, the default, is no rate at all: nothing is evaluated for it.
fn rate(own: Option<Template>, outer: &Option<Arc<Template>>) -> Option<Arc<Template>> {
    let is_zero = |own: &Template| own.as_literal().is_some_and(|text| conf::value::size(text) == Some(0));
    match own {
        Some(own) if is_zero(&own) => None,
        Some(own) => Some(Arc::new(own)),
        None => outer.clone(),
    }
}
