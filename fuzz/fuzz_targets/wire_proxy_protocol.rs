//! PROXY headers: no panic, and what a prefix could not decide the whole decides the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::http1::Step;
use wire::proxy_protocol::read;

fuzz_target!(|data: &[u8]| {
    let whole = read(data);
    match &whole {
        Ok(Step::Done(header)) => {
            assert!(header.used <= data.len());
            assert_eq!(read(&data[..header.used]), whole);
            let _ = (header.tlv("ssl_cn", data), header.tlv("0xe0", data), header.ssl_verify(data));
        }
        Ok(Step::More) => {}
        Err(error) => {
            let _ = error.log_text(data);
        }
    }
});
