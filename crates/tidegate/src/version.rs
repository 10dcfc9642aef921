//! `-v` and `-V`: who we say we are, and which of nginx's modules are there.
//!
//! Scripts and nginx's own test suite read this text as a list of capabilities, so it is made from the modules that
//! exist and never from a fixed string.

use std::fmt::Write;

/// The nginx whose language this program speaks.
pub const NGINX_VERSION: &str = "1.31.5";

/// Modules nginx builds unless told otherwise: one we lack is declared `--without-`.
const USUAL: &[&str] = &[
    "http_charset",
    "http_gzip",
    "http_ssi",
    "http_userid",
    "http_access",
    "http_auth_basic",
    "http_mirror",
    "http_autoindex",
    "http_geo",
    "http_map",
    "http_split_clients",
    "http_referer",
    "http_rewrite",
    "http_proxy",
    "http_fastcgi",
    "http_uwsgi",
    "http_scgi",
    "http_grpc",
    "http_tunnel",
    "http_memcached",
    "http_limit_conn",
    "http_limit_req",
    "http_empty_gif",
    "http_browser",
    "http_upstream_hash",
    "http_upstream_ip_hash",
    "http_upstream_least_conn",
    "http_upstream_least_time",
    "http_upstream_random",
    "http_upstream_keepalive",
    "http_upstream_zone",
    "http_upstream_sticky",
];

/// Modules nginx builds on request: one we have is declared `--with-`.
const EXTRA: &[&str] = &[
    "http_ssl",
    "http_v2",
    "http_v3",
    "http_realip",
    "http_addition",
    "http_sub",
    "http_dav",
    "http_flv",
    "http_mp4",
    "http_gunzip",
    "http_gzip_static",
    "http_auth_request",
    "http_random_index",
    "http_secure_link",
    "http_slice",
    "http_stub_status",
];

/// The text of `-v`.
pub fn version() -> String {
    format!("nginx version: nginx/{NGINX_VERSION}\n")
}

/// What `-V` adds. `modules` are the names of those that are there.
pub fn configure(modules: &[&str]) -> String {
    let has = |name: &str| modules.contains(&name);
    let mut text = format!("tidegate version {}\n", env!("CARGO_PKG_VERSION"));
    if has("http_ssl") {
        text.push_str("TLS SNI support enabled\n");
    }
    text.push_str("configure arguments:");
    let with = EXTRA.iter().filter(|name| has(name));
    let without = USUAL.iter().filter(|name| !has(name));
    for (word, names) in [("with", with.collect::<Vec<_>>()), ("without", without.collect())] {
        for name in names {
            let _ = write!(text, " --{word}-{name}_module");
        }
    }
    if !has("http_cache") {
        text.push_str(" --without-http-cache");
    }
    if has("stream") {
        text.push_str(" --with-stream");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(modules: &[&str], present: &[&str], absent: &[&str]) {
        let text = configure(modules);
        for word in present {
            assert!(text.contains(word), "{word} is missing in {text}");
        }
        for word in absent {
            assert!(!text.contains(word), "{word} is in {text}");
        }
    }

    #[test]
    fn the_text_tells_what_is_there() {
        assert_eq!(version(), "nginx version: nginx/1.31.5\n");
        check(
            &[],
            &["--without-http_proxy_module", "--without-http-cache"],
            &["SNI", "--with-", "dav", "slice"],
        );
        check(
            &["http_proxy", "http_ssl", "http_v2"],
            &[
                "TLS SNI support enabled",
                "--with-http_ssl_module",
                "--with-http_v2_module",
                "--without-http_map_module",
            ],
            &["http_proxy_module", "v3"],
        );
        assert!(
            configure(&[]).lines().all(|line| line.starts_with("tidegate") || line.starts_with("configure"))
        );
    }
}
