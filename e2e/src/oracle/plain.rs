//! What was seen, without what may differ from run to run and what only one of the two says.

use super::house::Seen;

/// Without what timing decides.
pub fn plainer(seen: &Seen) -> Seen {
    let mut seen = seen.clone();
    seen.client.0 = without_chunks(&seen.client.0);
    seen.ups.iter_mut().for_each(|up| up.0 = without_chunks(&up.0));
    // What nginx alone has to say, and we alone.
    const ALONE: [&str; 5] = [
        "is buffered to a temporary file",
        "using uninitialized",
        "shutdown() failed",
        "answered a WebSocket handshake",
        "closed keepalive connection",
    ];
    seen.errors.retain(|line| !ALONE.iter().any(|alone| line.contains(alone)));
    for line in &mut seen.errors {
        // Where it was read to depends on how it came.
        *line = line.replace("pipelined request line", "request line");
    }
    for line in &mut seen.errors {
        // As another C library says it.
        *line = line.replace("(36: Filename too long)", "(36: File name too long)");
        // Which server and host it was is not always known yet.
        if line.contains("client sent invalid header line: ") {
            line.truncate(line.rfind(", client: ").unwrap_or(line.len()));
        }
        if let Some(at) = line.find("client prematurely closed connection while sending request to upstream")
        {
            line.replace_range(at + 36..at + 70, "");
        }
        // How far it was when the client left.
        if line.contains("so upstream connection is closed too while ") {
            line.truncate(line.find(" while ").unwrap_or(line.len()));
        }
        *line = line.replace(" while sending to client", " while reading upstream");
        // As much of a bad line as was read.
        if line.contains("request line, client: ") {
            line.truncate(line.rfind(", request: ").unwrap_or(line.len()));
        }
        if line.starts_with("[info] client prematurely closed connection, ") {
            line.truncate(44);
        }
        // Of a request that was passed on before it came to a file.
        if let (Some(at), true) = (line.find(", upstream: "), line.contains("open()")) {
            let len = line[at + 2..].find(',').map_or(line.len() - at, |len| len + 2);
            line.replace_range(at..at + len, "");
        }
    }
    seen.access.iter_mut().for_each(|line| *line = masked(line));
    // nginx's lines end at 2048 bytes.
    seen.errors.iter_mut().for_each(|line| *line = masked(line).chars().take(400).collect());
    seen
}

/// Control bytes are escaped in our error log; some values in the access log are nothing anybody can use.
fn masked(line: &str) -> String {
    let line: String = line
        .chars()
        .map(|char| if char.is_control() { format!("\\x{:02x}", char as u32) } else { char.to_string() })
        .collect();
    line.replace("server_protocol=[]", "server_protocol=[-]").replace("uri=[]", "uri=[-]")
}

/// Chunks of one message as one, because where they begin depends on how the bytes came.
fn without_chunks(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("Transfer-Encoding: chunked\r\n") {
        let Some(head) = rest[at..].find("\r\n\r\n").map(|len| at + len + 4) else { break };
        out += &rest[..head];
        rest = &rest[head..];
        let mut data = String::new();
        while let Some((chunk, behind)) = chunk(rest) {
            data += chunk;
            rest = behind;
        }
        if !data.is_empty() {
            out += &format!("⟦{data}⟧");
        }
        if let Some(behind) = rest.strip_prefix("0\r\n") {
            out += "⟦end⟧";
            rest = behind;
        }
    }
    out + rest
}

fn chunk(text: &str) -> Option<(&str, &str)> {
    let (size, rest) = text.split_once("\r\n")?;
    let size = usize::from_str_radix(size, 16).ok().filter(|size| *size > 0)?;
    let mut chars = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    let end = chars.nth(size)?;
    Some((&rest[..end], rest[end..].strip_prefix("\r\n")?))
}
