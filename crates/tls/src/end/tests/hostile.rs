//! What a client that nobody knows may cost before it is anybody, and one that is known afterwards.

use super::*;

/// A handshake message of this kind that says it is `length` bytes, all zero, in records of `piece` bytes.
fn fragments(kind: u8, length: usize, piece: usize) -> Vec<u8> {
    let mut message = vec![kind, (length >> 16) as u8, (length >> 8) as u8, length as u8];
    message.resize(4 + length, 0);
    let record = |part: &[u8]| [&[22, 3, 3, 0, part.len() as u8][..], part].concat();
    message.chunks(piece).flat_map(record).collect()
}

/// Feeds a server what a client sends, as it would come from a socket; how much was kept for it at most, and the end of it.
fn feed(end: &mut ServerEnd, before: &[u8], bytes: &[u8], read: usize) -> (usize, String) {
    let (mut input, mut plain, mut reply) = (before.to_vec(), Vec::new(), Vec::new());
    let mut kept = 0;
    for piece in [&[][..]].into_iter().chain(bytes.chunks(read)) {
        input.extend_from_slice(piece);
        match end.decrypt(&mut input, &mut plain, &mut reply) {
            Ok(done) => drop(input.drain(..done.used)),
            Err(error) => return (kept, error.to_string()),
        }
        kept = kept.max(input.len() + end.held_bytes());
    }
    (kept, "still open".to_owned())
}

/// A server of that version which has heard a good hello, and that hello.
fn greeted(versions: &[&'static SupportedProtocolVersion]) -> (ServerEnd, Vec<u8>) {
    let (config, mut sent) = flights(versions);
    (ServerEnd::new(config).unwrap(), sent.remove(0))
}

fn choosing(versions: &[&'static SupportedProtocolVersion]) -> ServerEnd {
    let config = Arc::new(site(versions).server);
    ServerEnd::choosing(Box::new(move |_| Choice::Serve(config)))
}

/// A message may come in pieces, but what is kept of it has a bound, whatever the pieces are.
#[test]
fn messages_in_small_pieces() {
    // In a record of its own each of 64 thousand bytes is six.
    const KEPT_MAX: usize = 128 * 1024 + 16_000;
    for (piece, read) in [(1, 1400), (1, 6), (200, 1400), (250, 16_000)] {
        let (kept, said) = feed(&mut choosing(TLS13), b"", &fragments(1, 0xffff, piece), read);
        assert!(kept <= KEPT_MAX, "{kept}");
        assert_eq!(said, "message buffer full");
        let (mut end, hello) = greeted(TLS12);
        let (kept, said) = feed(&mut end, &hello, &fragments(16, 0xffff, piece), read);
        assert!(kept <= KEPT_MAX, "{kept}");
        assert_ne!(said, "still open");
    }
}

/// Records that are nothing, again and again.
#[test]
fn floods() {
    const LITTLE: usize = 4096;
    let records: [&[u8]; 3] = [&[20, 3, 3, 0, 1, 1], &[21, 3, 3, 0, 2, 1, 90], &[22, 3, 3, 0, 0]];
    for versions in [TLS12, TLS13] {
        for record in records {
            let flood = record.repeat(10_000);
            let (mut end, hello) = greeted(versions);
            for (kept, said) in
                [feed(&mut choosing(versions), b"", &flood, 1400), feed(&mut end, &hello, &flood, 1400)]
            {
                assert!(kept <= LITTLE && said != "still open", "{kept}, {said}");
            }
        }
    }
}

/// Each wants an answer, and nothing is read of what is said: what is owed does not grow.
#[test]
fn key_updates_that_want_answers() {
    let Site { server, client } = site(TLS13);
    let mut server = Side::new(ServerEnd::new(Arc::new(server)).unwrap());
    let mut client =
        ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let said = |client: &mut ClientConnection| {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        wire
    };
    while server.end.state() == State::Handshake {
        server.receive(&said(&mut client)).unwrap();
        client.read_tls(&mut &std::mem::take(&mut server.wire)[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    for with_data in [true, false] {
        let mut ended = None;
        for _ in 0..1000 {
            client.refresh_traffic_keys().unwrap();
            if with_data {
                client.writer().write_all(b"x").unwrap();
            }
            if let Err(error) = server.receive(&said(&mut client)) {
                ended = Some(error.to_string());
                break;
            }
        }
        assert!(server.wire.len() < 4096, "{}", server.wire.len());
        assert_eq!(ended.is_some(), !with_data, "{ended:?}");
    }
}
