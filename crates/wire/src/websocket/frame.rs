//! Writing the few frames a proxy sends itself.

use super::scanner::Opcode;

/// A Close frame's reason has room for so many bytes: 125 for a control frame's payload less the code.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// Appends a Close frame. `mask` is `Some` on the way to a server and nowhere else (RFC 6455 section 5.1). The reason is
/// text; it is cut at a letter's start to [`CLOSE_REASON_BYTES_MAX`] bytes.
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let mut payload = [0; 125];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    frame(Opcode::Close, &payload[..2 + reason.len()], mask, out);
}

/// Appends a Ping frame; of the payload at most 125 bytes are taken.
pub fn ping_frame(payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    frame(Opcode::Ping, &payload[..payload.len().min(125)], mask, out);
}

/// Appends a Pong frame; of the payload at most 125 bytes are taken.
pub fn pong_frame(payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    frame(Opcode::Pong, &payload[..payload.len().min(125)], mask, out);
}

/// Appends a whole frame, the only one of its message.
pub fn frame(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode as u8);
    match payload.len() {
        len @ 0..=125 => out.push(mask_bit | len as u8),
        len @ 126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    match mask {
        None => out.extend_from_slice(payload),
        Some(mask) => {
            out.extend_from_slice(&mask);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        let row = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            out
        };
        assert_eq!(row(&|out| close_frame(1001, "bye", None, out)), b"\x88\x05\x03\xe9bye");
        assert_eq!(
            row(&|out| close_frame(1001, "", Some([1, 2, 3, 4]), out)),
            b"\x88\x82\x01\x02\x03\x04\x02\xeb"
        );
        assert_eq!(row(&|out| ping_frame(b"abc", None, out)), b"\x89\x03abc");
        assert_eq!(row(&|out| pong_frame(&[0; 200], None, out)).len(), 127);
        assert_eq!(row(&|out| frame(Opcode::Binary, &[7; 126], None, out))[..5], [0x82, 126, 0, 126, 7]);
        let large = row(&|out| frame(Opcode::Text, &[7; 65536], None, out));
        assert_eq!(large[..11], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0, 7]);
        // 62 two-byte letters are 124 bytes: one too many, and half a letter is none.
        assert_eq!(row(&|out| close_frame(1012, &"é".repeat(62), None, out)).len(), 2 + 2 + 122);
    }
}
