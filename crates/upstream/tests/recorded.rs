//! The picks of real nginx, replayed: `recorded/`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_upstream::{
    Chooser, Failure, Group, GroupSpec, Method, PeerAddr, PeerSpec, Peers, PickContext, Registry, RoundRobin,
};

#[test]
fn picks_are_those_of_nginx() {
    check_all(include_str!("recorded/nginx-1.31-failures.txt"), |group, steps| {
        let start = Instant::now() + Duration::from_millis(150);
        let answers: Vec<String> = steps.split(' ').map(|step| run(group, start, step)).collect();
        answers.join(" , ")
    });
}

#[test]
fn picks_among_busy_peers_are_those_of_nginx() {
    check_all(include_str!("recorded/nginx-1.31-held.txt"), |group, steps| {
        let mut open = Vec::new();
        let mut answers = Vec::new();
        for step in steps.split(' ') {
            match step.strip_prefix('-') {
                Some(number) => open[number.parse::<usize>().unwrap() - 1] = None,
                None => {
                    let mut attempt = group.start(&PickContext::default());
                    let picked = attempt.next(Instant::now()).ok();
                    answers.push(picked.as_ref().map_or("-".to_owned(), |p| p.peer.spec.name.clone()));
                    open.push(Some((attempt, picked)));
                }
            }
        }
        answers.join(" ")
    });
}

/// Replays every row of a recording with `play(group, steps) -> answers`.
fn check_all(rows: &str, play: impl Fn(&Arc<Group>, &str) -> String) {
    let rows = rows.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for row in rows {
        let [servers, steps, expected] = row.split(" | ").collect::<Vec<_>>().try_into().expect(row);
        assert_eq!(play(&group(servers), steps), expected, "{row}");
        count += 1;
    }
    assert!(count > 10, "the recording is cut short");
}

fn group(servers: &str) -> Arc<Group> {
    let (method, servers): (Box<dyn Method>, _) = match servers.strip_prefix("least_conn, ") {
        Some(rest) => (Box::new(LeastConn), rest),
        None => (Box::new(RoundRobin), servers),
    };
    let peers = servers.split(", ").map(server).collect();
    let spec = GroupSpec { method, ..GroupSpec::new("u", peers) };
    Group::build(spec, &Registry::default()).unwrap()
}

/// `a weight=5 max_fails=3 backup`
fn server(line: &str) -> PeerSpec {
    let mut words = line.split(' ');
    let letter = words.next().unwrap();
    let mut peer = PeerSpec::new(letter, PeerAddr::Unix(std::path::Path::new(letter).into()));
    for word in words {
        match word.split_once('=') {
            Some(("weight", n)) => peer.weight = n.parse().unwrap(),
            Some(("max_conns", n)) => peer.max_conns = n.parse().unwrap(),
            Some(("max_fails", n)) => peer.max_fails = n.parse().unwrap(),
            Some(("fail_timeout", n)) => peer.fail_timeout_ms = n.parse::<u64>().unwrap() * 1000,
            None if word == "backup" => peer.backup = true,
            None if word == "down" => peer.down = true,
            _ => panic!("{word}"),
        }
    }
    peer
}

fn run(group: &Arc<Group>, start: Instant, step: &str) -> String {
    let (second, rest) = step.split_once(':').unwrap();
    let (bad, count) = rest.split_once('*').unwrap();
    let (failing, missing) = bad.split_once('/').unwrap_or((bad, ""));
    let now = start + Duration::from_secs(second.parse().unwrap());
    let count = count.parse().unwrap();
    (0..count).map(|_| request(group, now, failing, missing)).collect::<Vec<_>>().join(" ")
}

/// One request, as nginx's proxy module goes about it.
fn request(group: &Arc<Group>, now: Instant, failing: &str, missing: &str) -> String {
    let mut attempt = group.start(&PickContext::default());
    let mut asked = String::new();
    loop {
        let Ok(picked) = attempt.next(now) else {
            asked.push('-');
            return asked;
        };
        let name = &picked.peer.spec.name;
        asked.push_str(name);
        let failure = match () {
            () if failing.contains(name) => Failure::Status(503),
            () if missing.contains(name) => Failure::Status(404),
            () => return asked,
        };
        if attempt.tries_left() <= 1 {
            return asked;
        }
        let _ = attempt.failed(failure, now);
    }
}

/// nginx's `least_conn`: fewest live connections for its weight, round robin among equals.
#[derive(Debug)]
struct LeastConn;

impl Method for LeastConn {
    fn chooser(&self, _: &PickContext<'_>) -> Box<dyn Chooser> {
        Box::new(LeastConn)
    }
}

impl Chooser for LeastConn {
    fn pick(&mut self, peers: &mut Peers<'_>) -> Option<usize> {
        let usable: Vec<usize> = (0..peers.len()).filter(|&i| peers.usable(i)).collect();
        let load = |peers: &Peers<'_>, i: usize, other: usize| {
            u64::from(peers.peer(i).live()) * u64::from(peers.peer(other).spec.weight)
        };
        let mut best = *usable.first()?;
        for &i in &usable {
            if load(peers, i, best) < load(peers, best, i) {
                best = i;
            }
        }
        let equals: Vec<usize> =
            usable.into_iter().filter(|&i| load(peers, i, best) == load(peers, best, i)).collect();
        if equals.len() > 1 {
            best = RoundRobin::pick_among(peers, equals)?;
        }
        Some(best)
    }
}
