//! Answers that are only a status: error pages, redirects, the built-in pages with nginx's words.

use crate::config::ServerTokens;
use crate::message::{Body, Request};
use crate::phase::{Flow, Redirect};

/// The version we are compatible with, as `Server` and the pages show it.
pub const NGINX_VERSION: &str = "1.31.5";

/// A status becomes an error page where `error_page` has one, else the built-in page.
pub(super) fn answer(request: &mut Request, status: u16) -> Flow {
    if !request.error_page_shown && request.redirects_left > 1 && request.is_main() {
        let pages = request.location().core.error_pages.clone();
        if let Some(page) = pages.iter().find(|page| page.code == status) {
            return error_page(request, status, page);
        }
    }
    built_in(request, status)
}

fn error_page(request: &mut Request, status: u16, page: &crate::config::ErrorPage) -> Flow {
    no_keepalive_after(request, status);
    request.error_page_shown = !request.location().core.recursive_error_pages;
    request.error_status = Some(match page.answer {
        Some(answer) => answer,
        None => on_the_wire(status),
    });
    let target = page.uri.value(request);
    match target.first() {
        Some(b'/') => {
            // The page is fetched with GET, whatever the request's method was; HEAD stays.
            if request.method != wire::http1::Method::of(b"HEAD") {
                request.method = wire::http1::Method::of(b"GET");
            }
            let (uri, args) = match target.iter().position(|byte| *byte == b'?') {
                Some(at) => (target[..at].to_vec(), target[at + 1..].to_vec()),
                None => (target, Vec::new()),
            };
            Flow::Redirect(Redirect::Uri(uri, args))
        }
        Some(b'@') => Flow::Redirect(Redirect::Named(target)),
        _ => {
            let code = page.answer.filter(|code| matches!(code, 301 | 302 | 303 | 307 | 308)).unwrap_or(302);
            request.response.location = Some(target);
            built_in(request, code)
        }
    }
}

/// The built-in page of a status.
pub(super) fn built_in(request: &mut Request, status: u16) -> Flow {
    no_keepalive_after(request, status);
    request.response.reset_body();
    let shown = on_the_wire(status);
    request.response.status = shown;
    // From an error page: this is what came of it, not what it was shown for.
    request.error_status = Some(shown);
    let Some(body) = page(request, status) else {
        request.response.content_length = Some(0);
        return Flow::Respond;
    };
    let mut html = b"text/html".to_vec();
    if let Some(charset) = request.response.carried_type.take().as_deref().and_then(charset) {
        html.extend_from_slice(b"; charset=");
        html.extend_from_slice(charset);
    }
    request.response.content_type = Some(html);
    request.response.body = Body::Bytes(body);
    Flow::Respond
}

/// The charset in a type that an internal redirect carried here: it stays, whatever the page is.
fn charset(content_type: &[u8]) -> Option<&[u8]> {
    let at = content_type.windows(8).position(|part| part.eq_ignore_ascii_case(b"charset="))?;
    let charset = &content_type[at + 8..];
    Some(charset.strip_prefix(b"\"").and_then(|charset| charset.strip_suffix(b"\"")).unwrap_or(charset))
}

/// nginx's own codes 494 to 497 are 400 on the wire and in the log.
fn on_the_wire(status: u16) -> u16 {
    if (494..=497).contains(&status) { 400 } else { status }
}

/// After these, what the client sends next cannot be trusted.
fn no_keepalive_after(request: &mut Request, status: u16) {
    if matches!(status, 400 | 413 | 414 | 494..=497 | 500 | 501) {
        request.keepalive = false;
    }
}

/// The HTML of a status; `None` for one that has no page.
fn page(request: &Request, status: u16) -> Option<Vec<u8>> {
    let (title, heading, line) = text(status)?;
    let server = match request.location().core.server_tokens {
        ServerTokens::Off => "nginx".to_owned(),
        _ => format!("nginx/{NGINX_VERSION}"),
    };
    let mut page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n"
    );
    if !line.is_empty() {
        page.push_str("<center>");
        page.push_str(line);
        page.push_str("</center>\r\n");
    }
    page.push_str("<hr><center>");
    page.push_str(&server);
    page.push_str("</center>\r\n</body>\r\n</html>\r\n");
    if request.location().core.msie_padding && status >= 400 && is_msie(request) {
        for _ in 0..6 {
            page.push_str("<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n");
        }
    }
    Some(page.into_bytes())
}

fn is_msie(request: &Request) -> bool {
    let agent = request.field(wire::http1::FieldId::UserAgent).unwrap_or_default();
    let has = |needle: &[u8]| memchr::memmem::find(agent, needle).is_some();
    has(b"MSIE ") && !has(b"Opera") || has(b"Chrome/")
}

/// Title, heading and the line below, in nginx's words.
fn text(status: u16) -> Option<(&'static str, &'static str, &'static str)> {
    let same = |text: &'static str| Some((text, text, ""));
    match status {
        301 => same("301 Moved Permanently"),
        302 => same("302 Found"),
        303 => same("303 See Other"),
        307 => same("307 Temporary Redirect"),
        308 => same("308 Permanent Redirect"),
        400 => same("400 Bad Request"),
        401 => same("401 Authorization Required"),
        402 => same("402 Payment Required"),
        403 => same("403 Forbidden"),
        404 => same("404 Not Found"),
        405 => same("405 Not Allowed"),
        406 => same("406 Not Acceptable"),
        407 => same("407 Proxy Authentication Required"),
        408 => same("408 Request Time-out"),
        409 => same("409 Conflict"),
        410 => same("410 Gone"),
        411 => same("411 Length Required"),
        412 => same("412 Precondition Failed"),
        413 => same("413 Request Entity Too Large"),
        414 => same("414 Request-URI Too Large"),
        415 => same("415 Unsupported Media Type"),
        416 => same("416 Requested Range Not Satisfiable"),
        421 => same("421 Misdirected Request"),
        425 => same("425 Too Early"),
        426 => same("426 Upgrade Required"),
        429 => same("429 Too Many Requests"),
        494 => Some((
            "400 Request Header Or Cookie Too Large",
            "400 Bad Request",
            "Request Header Or Cookie Too Large",
        )),
        495 => Some(("400 The SSL certificate error", "400 Bad Request", "The SSL certificate error")),
        496 => Some((
            "400 No required SSL certificate was sent",
            "400 Bad Request",
            "No required SSL certificate was sent",
        )),
        497 => Some((
            "400 The plain HTTP request was sent to HTTPS port",
            "400 Bad Request",
            "The plain HTTP request was sent to HTTPS port",
        )),
        500 => same("500 Internal Server Error"),
        501 => same("501 Not Implemented"),
        502 => same("502 Bad Gateway"),
        503 => same("503 Service Temporarily Unavailable"),
        504 => same("504 Gateway Time-out"),
        505 => same("505 HTTP Version Not Supported"),
        507 => same("507 Insufficient Storage"),
        _ => None,
    }
}
