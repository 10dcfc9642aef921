//! What a connection's handshake agreed upon.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use tls::config::verify::Verdict;

use crate::config::ServerTls;

/// A client's TLS, once its handshake is over; for variables, the log, and the question whom it may ask.
#[derive(Debug)]
pub struct Tls {
    /// `$ssl_protocol`
    pub protocol: &'static str,
    /// `$ssl_cipher`
    pub cipher: &'static str,
    /// `$ssl_curve`
    pub curve: Option<&'static str>,
    /// `$ssl_sigalg`
    pub signature: Option<&'static str>,
    /// `$ssl_client_sigalg`
    pub client_signature: Option<&'static str>,
    /// Whether an earlier session was taken up.
    pub resumed: bool,
    /// The protocol agreed upon by ALPN.
    pub alpn: Option<Box<[u8]>>,
    /// The name the client asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// Whether a server has that name.
    pub named: bool,
    /// Numbers of the cipher suites the client offered.
    pub ciphers: Box<[u16]>,
    /// Numbers of the groups the client offered.
    pub curves: Box<[u16]>,
    /// Numbers of the signature algorithms the client offered.
    pub signatures: Box<[u16]>,
    /// The client's certificate and what it sent to go with it, DER.
    pub certificates: Box<[Box<[u8]>]>,
    /// What that is worth, and to whom.
    pub judged: Judged,
    /// The handshake is not over: what was read is early data, which could have been replayed.
    pub early: Cell<bool>,
}

/// What a client's certificate is worth to the servers that were asked for something: what one trusts, another may not.
#[derive(Debug, Default)]
pub struct Judged(RefCell<Vec<(Weak<ServerTls>, Verdict)>>);

/// Servers whose judgement is remembered, besides that of the handshake. Who goes to and fro between more of them is judged
/// again.
const JUDGES_MAX: usize = 4;

impl Judged {
    /// What it is worth to the server whose settings the handshake followed.
    pub fn first(server: &Arc<ServerTls>, verdict: Verdict) -> Judged {
        Judged(RefCell::new(vec![(Arc::downgrade(server), verdict)]))
    }

    /// What it is worth to this one, if that has judged it.
    pub fn by(&self, server: &Arc<ServerTls>) -> Option<Verdict> {
        let judged = self.0.borrow();
        judged.iter().find(|(by, _)| Weak::as_ptr(by) == Arc::as_ptr(server)).map(|(_, verdict)| *verdict)
    }

    /// The server has judged it.
    pub fn put(&self, server: &Arc<ServerTls>, verdict: Verdict) {
        let mut judged = self.0.borrow_mut();
        if judged.len() > JUDGES_MAX {
            judged.remove(1);
        }
        judged.push((Arc::downgrade(server), verdict));
    }

    /// `$ssl_client_verify` in a server: by its own authorities, or where clients are not asked for certificates by those of
    /// the handshake, as on nginx. [`Verdict::None`] before it has judged.
    pub fn verdict(&self, server: Option<&Arc<ServerTls>>) -> Verdict {
        let judge = server.filter(|server| server.clients.is_some());
        let verdict = match judge {
            Some(server) => self.by(server),
            None => self.0.borrow().first().map(|(_, verdict)| *verdict),
        };
        verdict.unwrap_or(Verdict::None)
    }
}

#[cfg(test)]
mod tests {
    use tls::config::verify::{Ask, Clients, Trust};

    use super::*;

    #[test]
    fn every_server_judges_for_itself() {
        let server = |ask: Option<Ask>| {
            let clients = ask.map(|ask| Arc::new(Clients::new(ask, Trust::new(Vec::new(), &[], 1).0, &[])));
            Arc::new(ServerTls { config: None, reject: false, clients, late: None, status: None })
        };
        let (one, other, careless) = (server(Some(Ask::On)), server(Some(Ask::On)), server(None));
        let judged = Judged::first(&one, Verdict::Success);
        assert_eq!((judged.by(&one), judged.by(&other)), (Some(Verdict::Success), None));
        assert_eq!(judged.verdict(Some(&other)), Verdict::None);
        assert_eq!(judged.verdict(Some(&careless)), Verdict::Success);
        assert_eq!(judged.verdict(None), Verdict::Success);
        judged.put(&other, Verdict::None);
        (0..2 * JUDGES_MAX).for_each(|_| judged.put(&server(None), Verdict::None));
        assert_eq!((judged.by(&one), judged.by(&other)), (Some(Verdict::Success), None));
        assert_eq!(judged.0.borrow().len(), JUDGES_MAX + 1);
    }
}
