//! The demo's page: HTML, style and script, kept as three files and sent as one.

use std::sync::LazyLock;

/// The whole page. Style and script are inlined, so that it needs nothing but its one answer.
pub(super) static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("page.html")
        .replace("/*page.css*/", include_str!("page.css").trim_end())
        .replace("/*page.js*/", include_str!("page.js").trim_end())
});

/// Headers of the page. Nothing is loaded from elsewhere and nothing may frame it. The two isolation headers give the page
/// a clock fine enough to time a loopback round trip (browsers coarsen it to 0.1 ms otherwise).
pub(super) const PAGE_HEADERS: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'\r\n\
     Cross-Origin-Opener-Policy: same-origin\r\n\
     Cross-Origin-Embedder-Policy: require-corp\r\n";
