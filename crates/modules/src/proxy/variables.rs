//! `$upstream_...` and `$proxy_...`.

use http::Request;
use http::variable::{Late, Variable};
use wire::http1::FieldId;

use crate::proxy::pass::Target;
use crate::proxy::state::{AttemptState, Upstreamed};

pub(crate) const ALL: &[Variable] = &[
    Variable {
        name: "proxy_host",
        doc: "Name and port of the proxied server as proxy_pass has them.",
        value: |request, _, out| target(request, out, |target| &target.host),
        ..Variable::NONE
    },
    Variable {
        name: "proxy_port",
        doc: "Port of the proxied server as proxy_pass has it, or the protocol's.",
        value: |request, _, out| target(request, out, |target| &target.port),
        ..Variable::NONE
    },
    Variable {
        name: "proxy_add_x_forwarded_for",
        doc: "The client's X-Forwarded-For with $remote_addr added.",
        value: |request, _, out| {
            forwarded_for(request, out);
            true
        },
        ..Variable::NONE
    },
    Variable {
        name: "upstream_addr",
        doc: "Addresses of the servers tried.",
        value: |request, _, out| {
            list(request, out, |attempt, out| out.extend_from_slice(attempt.name().as_bytes()))
        },
        ..Variable::NONE
    },
    Variable {
        name: "upstream_last_addr",
        doc: "Address of the last server tried.",
        value: |request, _, out| {
            last(request, out, |attempt, out| out.extend_from_slice(attempt.name().as_bytes()))
        },
        ..Variable::NONE
    },
    Variable {
        name: "upstream_last_server_name",
        doc: "The last server tried, as the configuration names it.",
        value: |request, _, out| {
            last(request, out, |attempt, out| {
                if let Some(peer) = &attempt.peer {
                    out.extend_from_slice(peer.spec.name.as_bytes());
                }
            })
        },
        ..Variable::NONE
    },
    Variable {
        name: "upstream_status",
        doc: "Statuses of the servers tried.",
        value: |request, _, out| {
            list(request, out, |attempt, out| number(u64::from(attempt.status), attempt.status == 0, out))
        },
        ..Variable::NONE
    },
    Variable {
        name: "upstream_connect_time",
        doc: "Seconds to connect.",
        value: |request, _, out| list(request, out, |attempt, out| seconds(attempt.connect_ms, out)),
        ..Variable::NONE
    },
    Variable {
        name: "upstream_header_time",
        doc: "Seconds to the response head.",
        value: |request, _, out| list(request, out, |attempt, out| seconds(attempt.header_ms, out)),
        ..Variable::NONE
    },
    Variable {
        name: "upstream_response_time",
        doc: "Seconds to the end of the response.",
        value: |request, _, out| list(request, out, |attempt, out| seconds(attempt.response_ms, out)),
        late: Some(Late::UpstreamResponseTime),
        ..Variable::NONE
    },
    Variable {
        name: "upstream_queue_time",
        doc: "Always empty: there is no queue.",
        value: |_, _, _| false,
        ..Variable::NONE
    },
    Variable {
        name: "upstream_response_length",
        doc: "Bytes of response bodies received.",
        value: |request, _, out| {
            list(request, out, |attempt, out| number(attempt.response_length, false, out))
        },
        ..Variable::NONE
    },
    Variable {
        name: "upstream_bytes_received",
        doc: "Bytes received from servers.",
        value: |request, _, out| list(request, out, |attempt, out| number(attempt.received, false, out)),
        late: Some(Late::UpstreamBytesReceived),
        ..Variable::NONE
    },
    Variable {
        name: "upstream_bytes_sent",
        doc: "Bytes sent to servers.",
        value: |request, _, out| list(request, out, |attempt, out| number(attempt.sent, false, out)),
        late: Some(Late::UpstreamBytesSent),
        ..Variable::NONE
    },
    Variable {
        name: "upstream_cache_status",
        doc: "Always empty: nothing is cached.",
        value: |_, _, _| false,
        ..Variable::NONE
    },
    Variable {
        name: "upstream_http_",
        family: true,
        doc: "A field of the last server's response.",
        value: field,
        ..Variable::NONE
    },
    Variable {
        name: "upstream_cookie_",
        family: true,
        doc: "A cookie the last server set.",
        value: cookie,
        ..Variable::NONE
    },
    Variable {
        name: "upstream_trailer_",
        family: true,
        doc: "Always empty: trailers are not kept.",
        value: |_, _, _| false,
        ..Variable::NONE
    },
];

fn target(request: &mut Request, out: &mut Vec<u8>, what: fn(&Target) -> &str) -> bool {
    let Some(upstreamed) = request.slots.find::<Upstreamed>() else { return false };
    if let Some(target) = &upstreamed.target {
        out.extend_from_slice(what(target).as_bytes());
    }
    true
}

fn forwarded_for(request: &mut Request, out: &mut Vec<u8>) {
    for field in request.head.fields.all(FieldId::XForwardedFor) {
        out.extend_from_slice(field.value.of(&request.bytes));
        out.extend_from_slice(b", ");
    }
    request.connection.write_peer(out);
}

type Write = fn(&AttemptState, &mut Vec<u8>);

/// Attempts are separated by commas, those behind an internal redirect by a colon.
fn list(request: &mut Request, out: &mut Vec<u8>, write: Write) -> bool {
    let Some(upstreamed) = request.slots.find::<Upstreamed>() else { return false };
    for (index, attempt) in upstreamed.attempts.iter().enumerate() {
        match (index, attempt.after_redirect) {
            (0, _) => {}
            (_, true) => out.extend_from_slice(b" : "),
            (_, false) => out.extend_from_slice(b", "),
        }
        write(attempt, out);
    }
    !upstreamed.attempts.is_empty()
}

fn last(request: &mut Request, out: &mut Vec<u8>, write: Write) -> bool {
    let Some(attempt) = request.slots.find::<Upstreamed>().and_then(|upstreamed| upstreamed.attempts.last())
    else {
        return false;
    };
    write(attempt, out);
    true
}

fn number(value: u64, missing: bool, out: &mut Vec<u8>) {
    if missing {
        return out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn seconds(ms: Option<u64>, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let _ = match ms {
        Some(ms) => write!(out, "{}.{:03}", ms / 1000, ms % 1000),
        None => write!(out, "-"),
    };
}

fn field(request: &mut Request, name: &str, out: &mut Vec<u8>) -> bool {
    let Some((head, bytes)) =
        request.slots.find::<Upstreamed>().and_then(|upstreamed| upstreamed.head.as_ref())
    else {
        return false;
    };
    let mut found = false;
    for field in &head.fields {
        let have = field.name.of(bytes);
        let same = have.len() == name.len()
            && have.iter().zip(name.bytes()).all(|(have, want)| match have.to_ascii_lowercase() {
                b'-' => want == b'_',
                have => have == want,
            });
        if same {
            if found {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(field.value.of(bytes));
            found = true;
        }
    }
    found
}

fn cookie(request: &mut Request, name: &str, out: &mut Vec<u8>) -> bool {
    let Some((head, bytes)) =
        request.slots.find::<Upstreamed>().and_then(|upstreamed| upstreamed.head.as_ref())
    else {
        return false;
    };
    head.fields.all(FieldId::SetCookie).any(|field| {
        let Some(value) = cookie_value(field.value.of(bytes), name.as_bytes()) else { return false };
        out.extend_from_slice(value);
        true
    })
}

/// nginx skips spaces around the `=`, and no tabs.
fn cookie_value<'b>(text: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let (have, rest) = text.split_at_checked(name.len())?;
    let rest = skip_spaces(rest).strip_prefix(b"=").filter(|_| have.eq_ignore_ascii_case(name))?;
    skip_spaces(rest).split(|byte| *byte == b';').next()
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    &text[spaces..]
}
