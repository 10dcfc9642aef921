//! Responses that are not passed on: an error page or another location answers in their place.

use http::log::Level;
use http::{Flow, Redirect, Request};
use wire::http1::FieldId;

use crate::proxy::exchange::Exchange;
use crate::proxy::receive::Received;
use crate::proxy::response;

impl Exchange<'_> {
    /// `proxy_intercept_errors`: a status that has an error page here.
    pub(super) fn intercepts(&self, received: &Received, request: &mut Request) -> bool {
        let status = received.head.status;
        let pages = request.location().core.error_pages.clone();
        if status < 300 || !pages.iter().any(|page| page.code == status) {
            return false;
        }
        if status == 401 {
            for field in received.head.fields.all(FieldId::WwwAuthenticate) {
                request.response.carry(field.id, b"WWW-Authenticate", field.value.of(&received.buf));
            }
        }
        true
    }

    /// `X-Accel-Redirect`
    pub(super) fn redirects(&self, received: &Received, request: &mut Request) -> Option<Flow> {
        if self.conf.ignore_headers.redirect {
            return None;
        }
        let to = received.head.fields.value(FieldId::XAccelRedirect, &received.buf)?.to_vec();
        response::carry(self.conf, &received.head, &received.buf, request);
        if to.starts_with(b"@") {
            return Some(Flow::Redirect(Redirect::Named(to)));
        }
        match response::internal_uri(&to) {
            Some((uri, args)) => {
                if request.method != wire::http1::Method::Head {
                    request.method = wire::http1::Method::Get;
                }
                Some(Flow::Redirect(Redirect::Uri(uri, args)))
            }
            None => {
                let to = String::from_utf8_lossy(&to);
                self.log(
                    request,
                    Level::Error,
                    format_args!(
                        "unsafe URI \"{to}\" was detected while reading response header from upstream"
                    ),
                );
                Some(Flow::Status(404))
            }
        }
    }
}
