//! What heads and frames cost, in nanoseconds: `cargo run --release -p tidegate-wire --example speed`. Compare figures of
//! one machine and one run only.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tidegate_wire::http1::{
    HeadLimits, RequestHead, ResponseHead, ResponseLimits, Resume, request, response,
};
use tidegate_wire::websocket::{Counts, Opcode, Scanner, frame};

const BROWSER: &[u8] = b"GET /assets/app/main.3f9c1b.js?v=20260101 HTTP/1.1\r\n\
Host: www.example.com\r\n\
Connection: keep-alive\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
Referer: https://www.example.com/a/page\r\n\
Upgrade-Insecure-Requests: 1\r\n\
Cache-Control: max-age=0\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
Content-Type: text/html; charset=utf-8\r\nContent-Length: 1234\r\nConnection: keep-alive\r\n\
ETag: \"5f0c-1234\"\r\nCache-Control: public, max-age=600\r\n\r\n";

fn main() {
    let (mut head, limits) = (RequestHead::default(), HeadLimits::default());
    measure(&format!("request head, {} bytes", BROWSER.len()), || {
        let step = request(black_box(BROWSER), &mut head, &mut Resume::default(), &limits);
        assert!(step.is_ok());
        black_box(&head);
    });
    let mut head = ResponseHead::default();
    let limits = ResponseLimits { head_bytes_max: 4096 };
    measure(&format!("response head, {} bytes", ANSWER.len()), || {
        let step = response(black_box(ANSWER), &mut head, &mut Resume::default(), &limits);
        assert!(step.is_ok());
        black_box(&head);
    });
    for size in [64, 16 * 1024] {
        let mut bytes = Vec::new();
        frame(Opcode::Binary, &vec![0; size], Some([1, 2, 3, 4]), &mut bytes);
        let (mut scanner, mut counts) = (Scanner::new(), Counts::default());
        measure(&format!("frame of {size} bytes"), || {
            scanner.scan(black_box(&bytes), &mut counts);
            black_box(&counts);
        });
    }
}

/// The best of ten rounds of a million, or of what fits in a fifth of a second.
fn measure(name: &str, mut work: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        let mut rounds = 0u32;
        while rounds < 1_000_000
            && (!rounds.is_multiple_of(1024) || start.elapsed() < Duration::from_millis(200))
        {
            work();
            rounds += 1;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(rounds) * 1e9);
    }
    println!("{name}: {best:.0} ns");
}
