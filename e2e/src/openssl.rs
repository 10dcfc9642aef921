//! OpenSSL's command line: a client with all the switches there are, and what `rcgen` cannot make.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Longest time one command may take, in seconds.
const SECONDS_MAX: &str = "20";

/// What one `openssl s_client` said and was told.
#[derive(Clone, Debug)]
pub struct Said(String);

impl Said {
    /// All of it, both streams.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The answer to the request that was sent: its status and the first line of its body, or the title of its page.
    pub fn answer(&self) -> Option<String> {
        let answer = &self.0[self.0.find("HTTP/1.1 ")?..];
        let status = answer.get(9..12)?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        // Of a page the title; behind a body stands what openssl has to say about the end.
        let page = body.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
        match page {
            Some((title, _)) => Some(title.to_owned()),
            None => Some(format!("{status} {}", body.lines().next().unwrap_or_default().trim_end())),
        }
    }

    /// The number of the alert that ended it.
    pub fn alert(&self) -> Option<u8> {
        let (_, number) = self.0.split_once("SSL alert number ")?;
        number.lines().next()?.trim().parse().ok()
    }

    /// Whether there was a handshake.
    pub fn is_open(&self) -> bool {
        self.0.contains("Verification") && !self.0.contains("Cipher is (NONE)")
    }
}

/// Connects with these switches, sends `input`, and reads until the server closes.
pub fn s_client(port: u16, switches: &str, dir: &Path, input: &str) -> Said {
    let mut command = Command::new("timeout");
    command.args([SECONDS_MAX, "openssl", "s_client", "-ign_eof", "-connect", &format!("127.0.0.1:{port}")]);
    command.args(switches.split_whitespace()).current_dir(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("`cargo xtask install` makes openssl");
    // It may have left already, refused.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("our own child");
    Said(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Asks it to renegotiate once the handshake is over; what was said until it left, or until the deadline.
pub fn renegotiate(port: u16, switches: &str) -> Said {
    let line =
        format!("exec timeout {SECONDS_MAX} openssl s_client -connect 127.0.0.1:{port} {switches} 2>&1");
    let mut command = Command::new("sh");
    command.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("`cargo xtask install` makes openssl");
    let mut input = child.stdin.take().expect("piped");
    // A line of its own that begins so is an order, not data.
    let _ = input.write_all(b"R\n");
    let mut said = Vec::new();
    let _ = child.stdout.take().expect("piped").read_to_end(&mut said);
    drop(input);
    child.wait().expect("our own child");
    Said(String::from_utf8_lossy(&said).into_owned())
}

/// Runs another command of it. Panics when that fails.
pub fn run(dir: &Path, line: &str) -> String {
    let output = Command::new("openssl").args(line.split_whitespace()).current_dir(dir).output();
    let output = output.expect("`cargo xtask install` makes openssl");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {line}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Each of these functions of a [`Kind`](crate::proxy::Kind) as a test of ours and as one of nginx.
#[macro_export]
macro_rules! openssl_beside_nginx {
    ($($name:ident),* $(,)?) => {
        mod openssl_tidegate {
            $(#[test] fn $name() { super::$name($crate::proxy::Kind::Tidegate); })*
        }
        mod openssl_nginx {
            // Skipped by either name where one of them is missing.
            mod nginx {
                $(#[test] fn $name() { super::super::$name($crate::proxy::Kind::Nginx); })*
            }
        }
    };
}
