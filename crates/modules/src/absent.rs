//! Variables of parts that are not here. They are what they are on nginx when a request did not use that part: no
//! compression, no address taken from a header. Log formats of the whole world name them.

use std::io::Write as _;

use http::config::Module;
use http::variable::Variable;

const fn nothing(name: &'static str, doc: &'static str) -> Variable {
    Variable { name, doc, value: |_, _, _| false, ..Variable::NONE }
}

/// The rest.
pub static OTHERS: Module = Module {
    name: "other variables",
    doc: "Variables of nginx's modules that are not here, as they are when a module has nothing to say.",
    variables: &[
        nothing("gzip_ratio", "Nothing without compression."),
        nothing("http2", "Nothing without HTTP/2."),
        nothing("http3", "Nothing without HTTP/3."),
        nothing("limit_conn_status", "Nothing without `limit_conn`."),
        nothing("limit_req_status", "Nothing without `limit_req`."),
        Variable {
            name: "realip_remote_addr",
            doc: "The client's address.",
            value: |request, _, out| write!(out, "{}", request.connection.peer_text()).is_ok(),
            ..Variable::NONE
        },
        Variable {
            name: "realip_remote_port",
            doc: "The client's port.",
            value: |request, _, out| match request.connection.peer {
                Some(peer) => write!(out, "{}", peer.port()).is_ok(),
                None => true,
            },
            ..Variable::NONE
        },
    ],
    ..Module::NONE
};
