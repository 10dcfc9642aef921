//! Where a request's URI lies on disk, and what type its extension says: shared by files, `return` and variables.

use crate::log::Level;
use crate::message::Request;

/// `$request_filename`: `root` and the URI, or what `alias` makes of it; `None` when an alias does not fit the URI.
pub fn path(request: &mut Request) -> Option<Vec<u8>> {
    let core = request.location().core.clone();
    let mut path = document_root(request);
    match core.alias {
        // In a regular expression's location the alias is the whole path.
        Some(usize::MAX) => {}
        Some(cut) => {
            let text_fits = request.uri.get(..cut) == request.location().text.get(..cut);
            if !text_fits {
                let shown = String::from_utf8_lossy(&request.location().text).into_owned();
                request.log(
                    Level::Alert,
                    format_args!("\"alias\" cannot be used in location \"{shown}\" where URI was rewritten"),
                );
                return None;
            }
            path.extend_from_slice(&request.uri[cut..]);
        }
        None => path.extend_from_slice(&request.uri),
    }
    Some(path)
}

/// `$document_root`
pub fn document_root(request: &mut Request) -> Vec<u8> {
    let core = request.location().core.clone();
    match &core.root_template {
        Some(template) => template.value(request),
        None => core.root.to_vec(),
    }
}

/// What stands behind the last dot of the URI's last segment.
pub fn extension(uri: &[u8]) -> &[u8] {
    for at in (2..uri.len()).rev() {
        match uri[at] {
            b'.' if uri[at - 1] != b'/' => return &uri[at + 1..],
            b'/' => return b"",
            _ => {}
        }
    }
    b""
}

/// The `Content-Type` that `types` and `default_type` give this URI.
pub fn content_type(request: &Request) -> Vec<u8> {
    let core = &request.location().core;
    let extension = extension(&request.uri).to_ascii_lowercase();
    let found = core.types.binary_search_by(|(have, _)| (**have).cmp(extension.as_slice()));
    match found {
        Ok(at) if !extension.is_empty() => core.types[at].1.to_vec(),
        _ => core.default_type.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn extensions_as_nginx_sees_them() {
        let check = |uri: &str, expected: &str| {
            assert_eq!(super::extension(uri.as_bytes()), expected.as_bytes(), "{uri}");
        };
        check("/a.html", "html");
        check("/a.tar.gz", "gz");
        check("/.htaccess", "");
        check("/a/.b", "");
        check("/a.b/c", "");
        check("/a", "");
        check("/", "");
        check("/a.", "");
    }
}
