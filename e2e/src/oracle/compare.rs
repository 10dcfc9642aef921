//! What counts as a difference.

use super::house::Seen;
use super::plain::plainer;
use super::purpose;
use super::trial::Trial;
use crate::raw::End;

/// What came of comparing the two.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Every difference, as its kind and both sides, but such as are on purpose.
    pub differences: Vec<Difference>,
    /// Why differences were left out of it.
    pub excuses: Vec<&'static str>,
}

/// Every difference, as its kind and both sides; empty when there is none, or only such as are on purpose.
pub fn differences(trial: &Trial, ours: &Seen, theirs: &Seen) -> Vec<Difference> {
    verdict(trial, ours, theirs).differences
}

/// The differences, and which of them are on purpose.
pub fn verdict(trial: &Trial, ours: &Seen, theirs: &Seen) -> Verdict {
    let (mut ours, mut theirs) = (plainer(ours), plainer(theirs));
    excuse_ends(&ours, &mut theirs);
    for seen in [&mut ours, &mut theirs] {
        seen.access.iter_mut().for_each(without_luck);
    }
    for field in uncertain(trial, &theirs) {
        for line in ours.access.iter_mut().chain(&mut theirs.access) {
            *line = without(line, field);
        }
    }
    if trial.pieces().len() > 1 {
        // Whether anybody still listens when a body turns bad is a matter of luck.
        for seen in [&mut ours, &mut theirs] {
            seen.errors.retain(|line| !line.contains("client sent invalid chunked body"));
        }
    }
    let mut verdict = Verdict { differences: found(trial, &ours, &theirs), excuses: Vec::new() };
    if !verdict.differences.is_empty() {
        for (why, kinds) in purpose::of(trial, &ours, &theirs) {
            let before = verdict.differences.len();
            verdict.differences.retain(|difference| !kinds.contains(&difference.kind));
            if verdict.differences.len() < before {
                verdict.excuses.push(why);
            }
        }
    }
    verdict
}

fn found(trial: &Trial, ours: &Seen, theirs: &Seen) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut push = |kind: &'static str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(Difference { kind, ours, theirs });
        }
    };
    push("client", ours.client.0.clone(), theirs.client.0.clone());
    push("client end", format!("{:?}", ours.client.1), format!("{:?}", theirs.client.1));
    // Which connection a request came on matters only where both keep them.
    let requests = |seen: &Seen| seen.ups.iter().map(|up| up.0.as_str()).collect::<String>();
    push("upstream", requests(ours), requests(theirs));
    if !is_kept_otherwise(trial, theirs) {
        let ends = |seen: &Seen| seen.ups.iter().map(|up| format!("{:?}\n", up.1)).collect::<String>();
        push("upstream ends", ends(ours), ends(theirs));
    }
    push("access log", ours.access.join("\n"), theirs.access.join("\n"));
    push("error log", ours.errors.join("\n"), theirs.errors.join("\n"));
    found
}

/// Ends that may differ.
fn excuse_ends(ours: &Seen, theirs: &mut Seen) {
    // What was read is closed in order; nginx resets what it left unread.
    let upstreams = ours.ups.iter().map(|up| &up.1).zip(theirs.ups.iter_mut().map(|up| &mut up.1));
    for (ours, theirs) in std::iter::once((&ours.client.1, &mut theirs.client.1)).chain(upstreams) {
        if (*ours, *theirs) == (End::Fin, End::Rst) {
            *theirs = End::Fin;
        }
    }
    if ours.client.0 == theirs.client.0 {
        // That there is no more is said at once, not after what is left of a body; nginx closes the connection behind a
        // 412, whatever the answer says.
        let is_closed = ours.client.1 == End::Fin && ours.client.0.contains("\nConnection: close");
        if is_closed || ours.client.0.contains(" 412 Precondition Failed") {
            theirs.client.1 = ours.client.1;
        }
    }
    let is_cut = theirs.access.iter().any(|line| line.contains("request_completion=[]"))
        || theirs.errors.iter().any(|line| line.contains("prematurely closed"));
    if is_cut && (ours.client.1, theirs.client.1) == (End::Rst, End::Fin) {
        theirs.client.1 = End::Rst;
    }
}

/// Fields of one line of the access log that timing decides.
fn without_luck(line: &mut String) {
    if line.contains("request=[HEAD ") {
        *line = without(line, "upstream_response_length");
    }
    // The head of a chunk counts, and where one begins depends on how the bytes came.
    if line.contains("sent_http_transfer_encoding=[chunked]") {
        *line = without(&without(line, "bytes_sent"), "body_bytes_sent");
    }
    // So does whether a head that is not whole says anything.
    if line.contains("status=[499]") {
        *line = without(line, "upstream_");
    }
    // And how much of a bad line is there.
    if line.contains("request_length=[0]") {
        *line = without(line, "request=");
    }
}

/// Fields of the access log that say nothing in such a trial.
fn uncertain(trial: &Trial, theirs: &Seen) -> Vec<&'static str> {
    let said = |what: &str| theirs.errors.iter().any(|line| line.contains(what));
    let mut fields = Vec::new();
    // nginx counts what it read of a body, not always what was of it.
    let is_coded = |bytes: &[u8]| bytes.windows(9).any(|some| some.eq_ignore_ascii_case(b"encoding:"));
    if said("chunked body") || trial.client.iter().any(|part| is_coded(&part.bytes)) {
        fields.push("request_length");
    }
    // It reads no more than fits its buffer.
    if said("more data than specified") {
        fields.push("upstream_response_length");
    }
    if said("prematurely closed") {
        fields.extend(["request_completion", "upstream_http_"]);
    }
    if theirs.client.0.contains(" 412 Precondition Failed") {
        fields.push("request_completion");
    }
    fields
}

fn without(line: &str, field: &str) -> String {
    line.split("] ").filter(|part| !part.starts_with(field)).collect::<Vec<_>>().join("] ")
}

/// Upstream connections that we keep and nginx does not, or the other way round: never one that carried Upgrade, that
/// HTTP/1.0 was spoken on or more came than an answer; but one whose answer was read whole though another was given.
fn is_kept_otherwise(trial: &Trial, theirs: &Seen) -> bool {
    let has = |what: &str| theirs.ups.iter().any(|up| up.0.contains(what));
    let answered = |what: &str| {
        trial
            .answers
            .iter()
            .flat_map(|answer| &answer.parts)
            .any(|part| String::from_utf8_lossy(&part.bytes).contains(what))
    };
    has("\nUpgrade: ")
        || has(" HTTP/1.0\r")
        || has("HEAD ")
        || answered("X-Accel-Redirect")
        || theirs.client.0.contains("named ")
        || theirs.client.0.contains("there ")
}

/// One thing that differs.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What.
    pub kind: &'static str,
    /// At ours.
    pub ours: String,
    /// At nginx.
    pub theirs: String,
}

impl Difference {
    /// The first lines that differ, without numbers, so that the same thing is reported once.
    pub fn signature(&self) -> String {
        let pair = self.ours.lines().zip(self.theirs.lines()).find(|(ours, theirs)| ours != theirs);
        let count = (self.ours.lines().count(), self.theirs.lines().count());
        let (ours, theirs) = pair.unwrap_or_else(|| {
            let at = count.0.min(count.1);
            (self.ours.lines().nth(at).unwrap_or(""), self.theirs.lines().nth(at).unwrap_or(""))
        });
        let mut fields = ours.split("] ").zip(theirs.split("] ")).filter(|(ours, theirs)| ours != theirs);
        let (ours, theirs) = fields.next().unwrap_or((ours, theirs));
        format!("{} | {} | {}", self.kind, short(ours), short(theirs))
    }
}

/// Both sides with what is the same in lines of many fields left out.
pub fn apart(ours: &str, theirs: &str) -> (String, String) {
    let fields = |line: &str| line.split("] ").map(str::to_owned).collect::<Vec<_>>();
    let mut out = (String::new(), String::new());
    let (mut ours, mut theirs) = (ours.lines(), theirs.lines());
    loop {
        let (our, their) = (ours.next(), theirs.next());
        let (Some(our), Some(their)) = (our, their) else {
            if our.is_none() && their.is_none() {
                return out;
            }
            out.0 += &our.map(|line| format!("{line}\n")).unwrap_or_default();
            out.1 += &their.map(|line| format!("{line}\n")).unwrap_or_default();
            continue;
        };
        let (our, their) = (fields(our), fields(their));
        let request = our.get(4).cloned().unwrap_or_default();
        let differing = our.iter().zip(&their).filter(|(ours, theirs)| ours != theirs);
        let (mut left, mut right): (Vec<String>, Vec<String>) =
            differing.map(|(a, b)| (a.clone(), b.clone())).unzip();
        if !left.is_empty() {
            left.push(request.clone());
            right.push(request);
        }
        out.0 += &(left.join("] ") + "\n");
        out.1 += &(right.join("] ") + "\n");
    }
}

fn short(line: &str) -> String {
    let line: String =
        line.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).take(60).collect();
    line.split([',', '"']).next().unwrap_or_default().to_owned()
}
