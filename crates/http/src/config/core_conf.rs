//! What the machinery itself must know of a configuration: the process, and a connection's limits. Plain data; the
//! directives that fill it are in `modules`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::log::ErrorLog;

/// Where relative names are looked up.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    /// `-p`: logs, `root`, temp paths.
    pub prefix: PathBuf,
    /// Directory of the main file: includes, certificates, password files.
    pub conf: PathBuf,
    /// `-e`: where errors go when the configuration names no `error_log`.
    pub error_log: PathBuf,
}

impl Prefixes {
    /// Where logs go whose place nobody wrote: as a distribution's package has it when the prefix is its own.
    pub fn logs(&self) -> PathBuf {
        if self.is_packaged() { PathBuf::from("/var/log/nginx") } else { self.prefix.join("logs") }
    }

    /// The pid file nobody wrote.
    pub fn pid(&self) -> PathBuf {
        if self.is_packaged() { PathBuf::from("/run/nginx.pid") } else { self.prefix.join("logs/nginx.pid") }
    }

    fn is_packaged(&self) -> bool {
        self.prefix == std::path::Path::new("/etc/nginx")
    }
}

/// The main and `events` level: what the process is made of.
#[derive(Clone, Debug)]
pub struct Core {
    /// `worker_processes`: threads, each with a loop for its requests and its tunnels.
    pub workers: usize,
    /// `worker_connections`: connections a worker may hold, a tunnel counting two (D12).
    pub connections: usize,
    /// `worker_rlimit_nofile`
    pub rlimit_nofile: Option<u64>,
    /// `user`: name and group; the process's own when it isn't root.
    pub user: Option<(String, Option<String>)>,
    /// `pid`
    pub pid: PathBuf,
    /// `daemon`
    pub daemon: bool,
    /// `master_process`: whether a monitor watches the serving process.
    pub master_process: bool,
    /// `worker_shutdown_timeout`
    pub shutdown_timeout_ms: Option<u64>,
    /// `error_log` of the main level.
    pub error_log: Arc<ErrorLog>,
    /// Whether there is an `events` block, without which nginx does not start.
    pub has_events: bool,
}

impl Default for Core {
    fn default() -> Core {
        Core {
            workers: 1,
            connections: 512,
            rlimit_nofile: None,
            user: None,
            pid: PathBuf::new(),
            daemon: true,
            master_process: true,
            shutdown_timeout_ms: None,
            error_log: Arc::default(),
            has_events: true,
        }
    }
}

/// Extensions and their types (`types`), sorted by extension.
pub type TypeTable = Vec<(Box<[u8]>, Box<[u8]>)>;

/// `lingering_close`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Lingering {
    /// `off`
    Off,
    /// `on`: when the client may still be sending.
    #[default]
    On,
    /// `always`
    Always,
}

/// `keepalive_disable`: browsers that get no second request on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KeepaliveDisable {
    /// Old Internet Explorers, after a POST.
    pub msie6: bool,
    /// Safari on macOS.
    pub safari: bool,
}

/// `if_modified_since`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IfModifiedSince {
    /// `off`: as if the client had not asked.
    Off,
    /// `exact`: the very time.
    #[default]
    Exact,
    /// `before`: that time or an earlier one.
    Before,
}

/// `server_tokens`
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ServerTokens {
    /// `nginx/VERSION`
    #[default]
    On,
    /// `nginx`
    Off,
    /// `nginx/VERSION (build)`
    Build,
}

/// What holds for requests of one block: the limits and habits of a connection. Times are milliseconds, sizes bytes.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is the directive of that name")]
pub struct CoreConf {
    pub error_log: Arc<ErrorLog>,
    pub root: Arc<[u8]>,
    /// `root` or `alias` with variables: used instead of `root`.
    pub root_template: Option<Arc<crate::Template>>,
    /// `alias`: bytes of the URI that the path replaces; `usize::MAX` in a regular expression's location: all of it.
    pub alias: Option<usize>,
    pub default_type: Arc<[u8]>,
    /// Extension in lower case and type, sorted by extension.
    pub types: Arc<TypeTable>,
    pub server_tokens: ServerTokens,
    pub tcp_nodelay: bool,
    pub client_header_buffer_size: usize,
    pub large_client_header_buffers: (usize, usize),
    pub client_header_timeout: u64,
    pub client_body_timeout: u64,
    pub client_max_body_size: u64,
    pub client_body_buffer_size: usize,
    pub send_timeout: u64,
    /// `limit_rate`, bytes a second.
    pub limit_rate: Option<Arc<crate::Template>>,
    /// `limit_rate_after`, bytes.
    pub limit_rate_after: Option<Arc<crate::Template>>,
    pub keepalive_timeout: u64,
    /// The second argument of `keepalive_timeout`, seconds; 0: no `Keep-Alive` header.
    pub keepalive_header: u64,
    pub keepalive_requests: u64,
    pub keepalive_disable: KeepaliveDisable,
    pub keepalive_time: u64,
    pub keepalive_min_timeout: u64,
    pub lingering_close: Lingering,
    pub lingering_time: u64,
    pub lingering_timeout: u64,
    pub reset_timedout_connection: bool,
    pub ignore_invalid_headers: bool,
    pub underscores_in_headers: bool,
    pub merge_slashes: bool,
    pub max_headers: usize,
    pub chunked_transfer_encoding: bool,
    pub absolute_redirect: bool,
    pub server_name_in_redirect: bool,
    pub port_in_redirect: bool,
    pub log_not_found: bool,
    pub internal: bool,
    pub msie_padding: bool,
    pub etag: bool,
    pub recursive_error_pages: bool,
    pub if_modified_since: IfModifiedSince,
    /// `max_ranges`: parts of a body sent at once; 0: none.
    pub max_ranges: usize,
    /// `error_page`: code, template of the URI or URL, and `=code` (0: the answer's own).
    pub error_pages: Arc<Vec<ErrorPage>>,
}

/// One code of an `error_page` line.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The status that is replaced.
    pub code: u16,
    /// `=200`: sent instead; `Some(0)`: `=`, whatever the page answers.
    pub answer: Option<u16>,
    /// URI, `@name` or URL.
    pub uri: crate::Template,
}

/// `types` where none are written.
const TYPES: [(&str, &str); 3] = [("gif", "image/gif"), ("html", "text/html"), ("jpg", "image/jpeg")];

impl Default for CoreConf {
    fn default() -> CoreConf {
        CoreConf {
            error_log: Arc::default(),
            root: Arc::from(&b"html"[..]),
            root_template: None,
            alias: None,
            default_type: Arc::from(&b"text/plain"[..]),
            types: Arc::new(
                TYPES.map(|(extension, name)| (extension.as_bytes().into(), name.as_bytes().into())).into(),
            ),
            server_tokens: ServerTokens::On,
            tcp_nodelay: true,
            client_header_buffer_size: 1024,
            large_client_header_buffers: (4, 8192),
            client_header_timeout: 60_000,
            client_body_timeout: 60_000,
            client_max_body_size: 1 << 20,
            client_body_buffer_size: 16_384,
            send_timeout: 60_000,
            limit_rate: None,
            limit_rate_after: None,
            keepalive_timeout: 75_000,
            keepalive_header: 0,
            keepalive_requests: 1000,
            keepalive_disable: KeepaliveDisable { msie6: true, safari: false },
            keepalive_time: 3_600_000,
            keepalive_min_timeout: 0,
            lingering_close: Lingering::On,
            lingering_time: 30_000,
            lingering_timeout: 5_000,
            reset_timedout_connection: false,
            ignore_invalid_headers: true,
            underscores_in_headers: false,
            merge_slashes: true,
            max_headers: 1000,
            chunked_transfer_encoding: true,
            absolute_redirect: true,
            server_name_in_redirect: false,
            port_in_redirect: true,
            log_not_found: true,
            internal: false,
            msie_padding: true,
            etag: true,
            recursive_error_pages: false,
            if_modified_since: IfModifiedSince::Exact,
            max_ranges: usize::MAX,
            error_pages: Arc::default(),
        }
    }
}
