//! Until `wire::websocket::Scanner` is there: the same shape.

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) frames: u64,
    pub(crate) messages: u64,
    pub(crate) close_code: Option<u16>,
}

#[derive(Debug, Default)]
pub(crate) struct Scanner {
    header: [u8; 14],
    have: u8,
    payload: u64,
}

impl Scanner {
    pub(crate) fn scan(&mut self, mut bytes: &[u8], counts: &mut Counts) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skip = self.payload.min(bytes.len() as u64);
                self.payload -= skip;
                bytes = &bytes[skip as usize..];
                continue;
            }
            self.header[self.have as usize] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have < 2 {
                continue;
            }
            let length = self.header[1] & 0x7f;
            let extra = match length {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            let mask = if self.header[1] & 0x80 != 0 { 4 } else { 0 };
            if usize::from(self.have) < 2 + extra + mask {
                continue;
            }
            self.payload = match extra {
                0 => u64::from(length),
                n => self.header[2..2 + n].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
            };
            self.have = 0;
            counts.frames += 1;
            if self.header[0] & 0x88 == 0x80 {
                counts.messages += 1;
            }
        }
    }

    pub(crate) fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload == 0
    }
}
