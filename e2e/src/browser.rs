//! Headless Chromium, asked through its DevTools socket.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket, connect};

use crate::programs::{Running, wait_until};
use crate::raw::{DEADLINE, Socket};
use crate::temp::TempDir;

/// Headless Chromium on one page.
#[derive(Debug)]
pub struct Browser {
    _process: Running,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    asked: u64,
}

impl Browser {
    /// Opens a page, with a profile of its own in this directory.
    pub fn open(url: &str, dir: &TempDir) -> Browser {
        Browser::open_with(Command::new("chromium"), url, dir)
    }

    /// The same with a command that ends in `chromium`, so that it gets the arguments.
    pub fn open_with(mut chromium: Command, url: &str, dir: &TempDir) -> Browser {
        let profile = dir.path().join("profile");
        chromium.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ]);
        chromium.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        chromium.args(["--disable-dev-shm-usage", "--remote-debugging-port=0", "--remote-allow-origins=*"]);
        chromium.arg(format!("--user-data-dir={}", profile.display())).arg(url);
        chromium.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Running(chromium.spawn().expect("chromium starts"));
        let mut port = None;
        wait_until("Chromium's DevTools port", || {
            let text = fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
            port = text.lines().next().and_then(|line| line.parse::<u16>().ok());
            port.is_some()
        });
        let port = port.expect("just found");
        let mut page = None;
        wait_until("Chromium's page", || {
            page = page_socket(port, url);
            page.is_some()
        });
        let (socket, _) = connect(page.expect("just found")).expect("Chromium answers");
        Browser { _process: process, socket, asked: 0 }
    }

    /// The value of an expression in the page, as text; of a promise, what becomes of it.
    pub fn evaluate(&mut self, expression: &str) -> String {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", &params);
        answer["result"]["value"].as_str().unwrap_or_default().to_owned()
    }

    /// Keeps a picture of the page, for a person to look at.
    pub fn screenshot(&mut self, path: &Path) {
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.ask("Page.captureScreenshot", &params);
        let picture = base64(answer["data"].as_str().expect("a picture"));
        assert!(picture.starts_with(b"\x89PNG"));
        fs::write(path, picture).expect("the target directory is ours");
        println!("the page: {}", path.display());
    }

    /// One question of the DevTools protocol, and its result.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        let question = json!({ "id": self.asked, "method": method, "params": params });
        self.socket.send(Message::text(question.to_string())).expect("Chromium listens");
        loop {
            let message = self.socket.read().expect("Chromium answers");
            let mut answer: Value =
                serde_json::from_str(message.to_text().unwrap_or("{}")).unwrap_or_default();
            if answer["id"] == self.asked {
                return answer["result"].take();
            }
        }
    }
}

/// The bytes of a base64 text (RFC 4648, section 4).
fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let groups = text.trim_end_matches('=').as_bytes().chunks(4);
    groups
        .flat_map(|group| {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 6 | u32::from(value(*byte)));
            let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
            bytes[1..group.len()].to_vec()
        })
        .collect()
}

/// The DevTools address of the tab that shows `url`, from Chromium's own list.
fn page_socket(port: u16, url: &str) -> Option<String> {
    let mut list = Socket::connect(([127, 0, 0, 1], port).into()).ok()?;
    list.send(
        format!("GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    list.wait_end(DEADLINE);
    let text = String::from_utf8_lossy(list.received()).into_owned();
    let pages: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
    let page =
        pages.as_array()?.iter().find(|page| page["url"].as_str().is_some_and(|at| at.starts_with(url)))?;
    Some(page["webSocketDebuggerUrl"].as_str()?.to_owned())
}
