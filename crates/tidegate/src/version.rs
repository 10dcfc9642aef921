//! `-v` and `-V`: who we say we are, and which of nginx's modules are there.
//!
//! Scripts and nginx's own test suite read this text as a list of capabilities, so it is made from the directives
//! that work and never from a fixed string.

use std::fmt::Write;

/// The nginx whose language this program speaks.
pub const NGINX_VERSION: &str = "1.31.5";

/// Modules nginx builds unless told otherwise, with a directive that shows whether one is there: one we lack is declared
/// `--without-`.
const USUAL: &[(&str, &str)] = &[
    ("http_charset", "charset"),
    ("http_gzip", "gzip"),
    ("http_ssi", "ssi"),
    ("http_userid", "userid"),
    ("http_access", "allow"),
    ("http_auth_basic", "auth_basic"),
    ("http_mirror", "mirror"),
    ("http_autoindex", "autoindex"),
    ("http_geo", "geo"),
    ("http_map", "map"),
    ("http_split_clients", "split_clients"),
    ("http_referer", "valid_referers"),
    ("http_rewrite", "rewrite"),
    ("http_proxy", "proxy_pass"),
    ("http_fastcgi", "fastcgi_pass"),
    ("http_uwsgi", "uwsgi_pass"),
    ("http_scgi", "scgi_pass"),
    ("http_grpc", "grpc_pass"),
    ("http_tunnel", "tunnel_pass"),
    ("http_memcached", "memcached_pass"),
    ("http_limit_conn", "limit_conn"),
    ("http_limit_req", "limit_req"),
    ("http_empty_gif", "empty_gif"),
    ("http_browser", "modern_browser"),
    ("http_upstream_hash", "hash"),
    ("http_upstream_ip_hash", "ip_hash"),
    ("http_upstream_least_conn", "least_conn"),
    ("http_upstream_least_time", "least_time"),
    ("http_upstream_random", "random"),
    ("http_upstream_keepalive", "keepalive"),
    ("http_upstream_zone", "zone"),
    ("http_upstream_sticky", "sticky"),
];

/// Modules nginx builds on request: one we have is declared `--with-`.
const EXTRA: &[(&str, &str)] = &[
    ("http_ssl", "ssl_certificate"),
    ("http_v2", "http2"),
    ("http_v3", "http3"),
    ("http_realip", "set_real_ip_from"),
    ("http_addition", "add_before_body"),
    ("http_sub", "sub_filter"),
    ("http_dav", "dav_methods"),
    ("http_flv", "flv"),
    ("http_mp4", "mp4"),
    ("http_gunzip", "gunzip"),
    ("http_gzip_static", "gzip_static"),
    ("http_auth_request", "auth_request"),
    ("http_random_index", "random_index"),
    ("http_secure_link", "secure_link"),
    ("http_slice", "slice"),
    ("http_stub_status", "stub_status"),
];

/// The text of `-v`.
pub fn version() -> String {
    format!("nginx version: nginx/{NGINX_VERSION}\n")
}

/// What `-V` adds. `directives` are those that work.
pub fn configure(directives: &[&str]) -> String {
    let has = |name: &str| directives.contains(&name);
    let mut text = format!("tidegate version {}\n", env!("CARGO_PKG_VERSION"));
    if has("ssl_certificate") {
        // As nginx puts the libraries that stand in for OpenSSL. Scripts look for the number to learn what TLS can do here:
        // certbot, nginx's test suite.
        text.push_str("built with OpenSSL 1.1.1 (compatible; rustls)\n");
        text.push_str("TLS SNI support enabled\n");
    }
    text.push_str("configure arguments:");
    let with = EXTRA.iter().filter(|(_, directive)| has(directive));
    let without = USUAL.iter().filter(|(_, directive)| !has(directive));
    for (word, names) in [("with", with.collect::<Vec<_>>()), ("without", without.collect())] {
        for (name, _) in names {
            let _ = write!(text, " --{word}-{name}_module");
        }
    }
    if !has("proxy_cache") {
        text.push_str(" --without-http-cache");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(directives: &[&str], present: &[&str], absent: &[&str]) {
        let text = configure(directives);
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
            &["proxy_pass", "ssl_certificate", "http2"],
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
