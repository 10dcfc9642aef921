//! Response heads, chunks and trailers: no panic, and the same answer however the bytes are split.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::http1::{
    Chunk, ChunkDecoder, Fields, ResponseError, ResponseHead, ResponseLimits, Resume, Step, Trailers,
    response,
};

fn read(input: &[u8], ends: &[usize]) -> Result<Step<usize>, ResponseError> {
    let (mut head, mut resume) = (ResponseHead::default(), Resume::default());
    let limits = ResponseLimits { head_bytes_max: 256 };
    let mut last = Ok(Step::More);
    for &end in ends {
        last = response(&input[..end], &mut head, &mut resume, &limits);
        if last != Ok(Step::More) {
            break;
        }
    }
    last
}

/// The data, and how it ended: -1 bad, -2 more, else the offset of the end.
fn decode(input: &[u8], ends: &[usize]) -> (Vec<u8>, i64) {
    let mut decoder = ChunkDecoder::new();
    let (mut data, mut at) = (Vec::new(), 0);
    for &end in ends {
        loop {
            match decoder.step(&input[at..end]) {
                Err(_) => return (data, -1),
                Ok(Chunk::End(used)) => return (data, (at + used) as i64),
                Ok(Chunk::More) => break,
                Ok(Chunk::Data(range)) => {
                    data.extend_from_slice(&input[at..end][range.clone()]);
                    at += range.end;
                }
            }
        }
        at = end;
    }
    (data, -2)
}

fuzz_target!(|data: &[u8]| {
    let [split, input @ ..] = data else { return };
    let split = usize::from(*split).min(input.len());
    let whole = read(input, &[input.len()]);
    assert_eq!(whole, read(input, &[split, input.len()]));
    if let Err(error) = whole {
        let _ = error.log_text(input);
    }
    assert_eq!(decode(input, &[input.len()]), decode(input, &[split, input.len()]));
    let _ = Trailers::default().read(input, &mut Fields::default(), 128);
});
