//! Request heads: no panic, spans inside the buffer, and the same answer however the bytes are split.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::http1::{HeadLimits, RequestError, RequestHead, Resume, Step, request};

type Outcome = Result<Step<usize>, RequestError>;

fn read(input: &[u8], ends: &[usize], limits: &HeadLimits) -> (Outcome, RequestHead) {
    let (mut head, mut resume) = (RequestHead::default(), Resume::default());
    let mut last = Ok(Step::More);
    for &end in ends {
        last = request(&input[..end], &mut head, &mut resume, limits);
        if last != Ok(Step::More) {
            break;
        }
    }
    (last, head)
}

fuzz_target!(|data: &[u8]| {
    let [split, lenient, input @ ..] = data else { return };
    let mut limits = HeadLimits { first_buffer_bytes: 64, line_bytes_max: 128, ..HeadLimits::default() };
    if lenient & 1 == 1 {
        limits = HeadLimits { underscores: true, ignore_invalid: false, merge_slashes: false, ..limits };
    }
    let split = usize::from(*split).min(input.len());
    let (whole, head) = read(input, &[input.len()], &limits);
    let (stepped, other) = read(input, &[split, input.len()], &limits);
    assert_eq!(whole, stepped);
    if let Ok(Step::Done(used)) = whole {
        assert!(used <= input.len());
        assert_eq!(head.path(input), other.path(input));
        assert_eq!(head.fields.as_slice(), other.fields.as_slice());
        assert!(head.fields.iter().all(|field| field.name.end() <= used && field.value.end() <= used));
        let _ = wire::websocket::handshake(&head, input);
    }
    if let Err(error) = whole {
        let _ = error.log_text(input);
    }
});
