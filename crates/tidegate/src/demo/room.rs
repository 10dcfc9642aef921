//! The chat room: who is in it, what was said last, and one bounded outbox per member.
//!
//! Speaking never waits for a listener. A member whose outbox is full has stopped reading: it is put out of the room and
//! its connection is cut, so that one sleeping tab can't hold the others up or make memory grow.

use std::{
    collections::VecDeque,
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tungstenite::{
    Bytes,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

/// Frames that may wait for one member.
const OUTBOX_FRAMES_MAX: usize = 128;
/// Lines a newcomer is shown.
const HISTORY_LINES_MAX: usize = 20;
/// Longest line, in characters; the rest is cut.
const LINE_CHARS_MAX: usize = 500;
/// Birds of the tideline. With more members than names, a number follows.
const NAMES: [&str; 16] = [
    "curlew",
    "plover",
    "tern",
    "heron",
    "dunlin",
    "egret",
    "knot",
    "gannet",
    "avocet",
    "petrel",
    "sanderling",
    "eider",
    "turnstone",
    "puffin",
    "godwit",
    "skua",
];

/// Where a member's encoded frames go; its connection's writer holds the other end.
pub(super) type Outbox = SyncSender<Bytes>;

/// The room everybody is in.
#[derive(Default)]
pub(super) struct Room {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    members: Vec<Member>,
    history: VecDeque<Value>,
    seats_taken: u64,
}

struct Member {
    seat: u64,
    name: String,
    outbox: Outbox,
    stream: Arc<TcpStream>,
}

impl Room {
    /// Seats a member, tells it the last lines and the others that it came. The frames to write come out of the receiver,
    /// which ends when the member has left.
    pub(super) fn join(&self, stream: Arc<TcpStream>) -> (u64, Outbox, Receiver<Bytes>) {
        let (outbox, frames) = sync_channel(OUTBOX_FRAMES_MAX);
        let mut inner = self.lock();
        let seat = inner.seats_taken;
        inner.seats_taken += 1;
        let name = inner.free_name();
        let here = inner.members.len() + 1;
        let welcome = json!({ "type": "welcome", "name": name, "here": here, "history": Value::from_iter(inner.history.clone()) });
        // The outbox is new and holds more than one frame: this cannot fail.
        let _ = outbox.try_send(text_frame(&welcome));
        inner.tell(&json!({ "type": "joined", "name": name, "here": here }));
        inner.members.push(Member { seat, name, outbox: outbox.clone(), stream });
        (seat, outbox, frames)
    }

    /// Passes a member's line to everybody, the speaker included.
    pub(super) fn say(&self, seat: u64, line: &str) {
        let line: String = line.trim().chars().take(LINE_CHARS_MAX).collect();
        if line.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let Some(member) = inner.members.iter().find(|member| member.seat == seat) else { return };
        let said = json!({ "type": "say", "name": member.name, "text": line, "at_ms": unix_ms() });
        if inner.history.len() == HISTORY_LINES_MAX {
            inner.history.pop_front();
        }
        inner.history.push_back(said.clone());
        inner.tell(&said);
    }

    /// Frees a seat and tells those who stay.
    pub(super) fn leave(&self, seat: u64) {
        let mut inner = self.lock();
        let Some(at) = inner.members.iter().position(|member| member.seat == seat) else { return };
        let name = inner.members.remove(at).name;
        let here = inner.members.len();
        inner.tell(&json!({ "type": "left", "name": name, "here": here }));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tell(&mut self, event: &Value) {
        let frame = text_frame(event);
        for member in &self.members {
            if let Err(TrySendError::Full(_)) = member.outbox.try_send(frame.clone()) {
                // Its reader sees the end and calls `leave`.
                let _ = member.stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn free_name(&self) -> String {
        let taken = |name: &str| self.members.iter().any(|member| member.name == name);
        let start = self.seats_taken as usize;
        let birds = (0..NAMES.len()).map(|step| NAMES[(start + step) % NAMES.len()].to_owned());
        let numbered = (2..).map(|round: usize| format!("{} {round}", NAMES[start % NAMES.len()]));
        birds.chain(numbered).find(|name| !taken(name)).expect("the numbered names never end")
    }
}

/// One unfragmented, unmasked text frame (RFC 6455, section 5.2: a server does not mask).
fn text_frame(event: &Value) -> Bytes {
    let frame = Frame::message(event.to_string(), OpCode::Data(Data::Text), true);
    let mut bytes = Vec::with_capacity(frame.len());
    frame.format(&mut bytes).expect("writing to a Vec does not fail");
    bytes.into()
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64)
}
