use std::time::{Duration, Instant};

use super::*;
use crate::{Attempt, Failure, Health, NoLive, PeerAddr, PeerGuard, PeerRef, PickContext};

fn addr(last: u8) -> PeerAddr {
    PeerAddr::Tcp(([127, 0, 0, last], 80).into())
}

/// Peers 127.0.0.1, 127.0.0.2, …
fn peers(count: u8) -> Vec<PeerSpec> {
    (1..=count).map(|last| PeerSpec::new(format!("peer{last}"), addr(last))).collect()
}

fn build(spec: GroupSpec, registry: &Registry) -> Arc<Group> {
    Group::build(spec, registry).unwrap()
}

fn start(group: &Group) -> Attempt<'_> {
    group.start(&PickContext::default())
}

/// One request that stays with its peer.
fn pick(group: &Group) -> Result<PeerRef<'_>, NoLive> {
    start(group).next(Instant::now())
}

fn live(group: &Group) -> Vec<u32> {
    group.peers().map(|peer| peer.live()).collect()
}

#[test]
fn groups_are_shared_between_workers_and_guards_travel() {
    fn shared<T: Send + Sync>() {}
    fn travels<T: Send + 'static>() {}
    shared::<Arc<Group>>();
    shared::<Registry>();
    travels::<PeerGuard>();
}

#[test]
fn a_group_needs_a_primary_peer() {
    let backup = PeerSpec { backup: true, ..PeerSpec::new("b", addr(1)) };
    for peers in [vec![], vec![backup]] {
        let error = Group::build(GroupSpec::new("empty", peers), &Registry::default()).unwrap_err();
        assert_eq!(error.to_string(), "no servers in upstream \"empty\"");
    }
}

#[test]
fn a_guard_counts_until_it_is_dropped_anywhere() {
    let group = build(GroupSpec::new("u", peers(2)), &Registry::default());
    let first = pick(&group).unwrap();
    let second = pick(&group).unwrap();
    let third = pick(&group).unwrap();
    assert_eq!(live(&group), [2, 1]);
    assert_eq!((first.peer.text.as_str(), second.peer.text.as_str()), ("127.0.0.1:80", "127.0.0.2:80"));
    drop(second);
    assert_eq!(live(&group), [2, 0]);
    std::thread::spawn(move || drop(third.guard)).join().unwrap();
    assert_eq!(live(&group), [1, 0]);
}

#[test]
fn live_counts_survive_a_reload() {
    let registry = Registry::default();
    let old = build(GroupSpec::new("u", peers(2)), &registry);
    let tunnel = pick(&old).unwrap().guard;
    let other = build(GroupSpec::new("other", peers(2)), &registry);
    let new = build(GroupSpec::new("u", peers(3)), &registry);
    assert_eq!((live(&old), live(&new), live(&other)), (vec![1, 0], vec![1, 0, 0], vec![0, 0]));

    drop((old, new));
    let newest = build(GroupSpec::new("u", peers(1)), &registry);
    assert_eq!(live(&newest), [1], "the tunnel alone kept the count");
    drop(tunnel);
    assert_eq!(live(&newest), [0]);
}

#[test]
fn the_registry_forgets_what_nobody_holds() {
    let registry = Registry::default();
    let group = build(GroupSpec::new("u", peers(3)), &registry);
    let tunnel = pick(&group).unwrap().guard;
    assert_eq!(registry.sizes(), (3, 1));
    drop(group);
    registry.sweep();
    assert_eq!(registry.sizes(), (1, 0), "the tunnel's peer");
    drop(tunnel);
    registry.sweep();
    assert_eq!(registry.sizes(), (0, 0));
}

#[test]
fn an_address_listed_twice_counts_twice() {
    let mut twice = peers(1);
    twice.extend(peers(1));
    let registry = Registry::default();
    let old = build(GroupSpec::new("u", twice.clone()), &registry);
    let _first = pick(&old).unwrap();
    assert_eq!(live(&old), [1, 0]);
    let new = build(GroupSpec::new("u", twice), &registry);
    assert_eq!(live(&new), [1, 0]);
}

#[test]
fn max_conns_holds_across_generations() {
    let limited = || GroupSpec::new("u", vec![PeerSpec { max_conns: 1, ..PeerSpec::new("p", addr(1)) }]);
    let registry = Registry::default();
    let before = build(limited(), &registry);
    let tunnel = pick(&before).unwrap();
    let new = build(limited(), &registry);
    assert_eq!(pick(&new).unwrap_err(), NoLive { upstream: "u".into() });
    drop(tunnel);
    assert!(pick(&new).is_ok());
}

#[test]
fn health_survives_a_reload_only_where_asked() {
    for keep_health in [false, true] {
        let registry = Registry::default();
        let spec = || GroupSpec { keep_health, ..GroupSpec::new("u", peers(2)) };
        let old = build(spec(), &registry);
        let mut attempt = start(&old);
        let failed = attempt.next(Instant::now()).unwrap();
        assert_eq!(attempt.failed(Failure::Error, Instant::now()), Health::Disabled);

        // A configuration that was tested and thrown away leaves no trace.
        drop(build(spec(), &registry));
        let new = build(spec(), &registry);
        let next: Vec<String> = (0..3).map(|_| pick(&new).unwrap().peer.text.clone()).collect();
        let avoided = !next.contains(&failed.peer.text);
        assert_eq!(avoided, keep_health, "{next:?}");
    }
}

#[test]
fn tries_run_out() {
    let group = build(GroupSpec::new("u", peers(3)), &Registry::default());
    let now = Instant::now();
    for (limit, expected) in [(0, 3), (1, 1), (2, 2), (9, 3)] {
        let mut attempt = start(&group);
        attempt.limit_tries(limit);
        let mut tried = 0;
        while attempt.tries_left() > 0 {
            drop(attempt.next(now).unwrap());
            let _ = attempt.failed(Failure::Status(404), now);
            tried += 1;
        }
        assert_eq!(tried, expected, "limit {limit}");
    }
}

#[test]
fn a_stale_kept_connection_costs_no_try() {
    for count in [1, 2] {
        let group = build(GroupSpec::new("u", peers(count)), &Registry::default());
        let mut attempt = start(&group);
        drop(attempt.next(Instant::now()).unwrap());
        let before = attempt.tries_left();
        let _ = attempt.failed(Failure::Error, Instant::now());
        attempt.give_back_try();
        assert_eq!(attempt.tries_left(), before);
        assert!(attempt.next(Instant::now()).is_ok(), "{count} peers");
    }
}

#[test]
fn our_own_failures_leave_the_peer_alone() {
    let group = build(GroupSpec::new("u", peers(2)), &Registry::default());
    let rows = [
        (Failure::Ours, Health::Live),
        (Failure::Status(403), Health::Live),
        (Failure::Status(404), Health::Live),
        (Failure::Status(502), Health::Disabled),
    ];
    for (failure, expected) in rows {
        let mut attempt = start(&group);
        drop(attempt.next(Instant::now()).unwrap());
        assert_eq!(attempt.failed(failure, Instant::now()), expected, "{failure:?}");
    }
}

#[test]
fn a_success_clears_failures_only_after_the_timeout() {
    let two = || peers(2).into_iter().map(|p| PeerSpec { max_fails: 2, ..p }).collect();
    for (wait_s, expected) in [(5, Health::Disabled), (12, Health::Live)] {
        let group = build(GroupSpec::new("u", two()), &Registry::default());
        let begin = Instant::now();
        // All requests meet peer1: peer2 is tried first by a request that then fails over.
        let visit = |now: Instant, outcome: Option<Failure>| {
            let mut attempt = start(&group);
            loop {
                let picked = attempt.next(now).unwrap();
                if picked.peer.spec.name == "peer1" {
                    return outcome.map(|failure| attempt.failed(failure, now));
                }
                let _ = attempt.failed(Failure::Status(404), now);
            }
        };
        assert_eq!(visit(begin, Some(Failure::Timeout)), Some(Health::Live));
        let later = begin + Duration::from_secs(wait_s);
        assert_eq!(visit(later, None), None);
        assert_eq!(visit(later, Some(Failure::Timeout)), Some(expected), "after {wait_s} s");
    }
}

#[test]
fn more_than_64_peers_are_each_tried_once() {
    let group = build(GroupSpec::new("u", peers(200)), &Registry::default());
    let mut attempt = start(&group);
    let mut seen = std::collections::HashSet::new();
    while let Ok(picked) = attempt.next(Instant::now()) {
        assert!(seen.insert(picked.peer.text.clone()));
    }
    assert_eq!(seen.len(), 200);
}

#[test]
fn no_live_upstreams_in_nginx_words() {
    let down = PeerSpec { down: true, ..PeerSpec::new("p", addr(1)) };
    let error = pick(&build(GroupSpec::new("backend", vec![down]), &Registry::default())).unwrap_err();
    assert_eq!((error.to_string().as_str(), &*error.upstream), ("no live upstreams", "backend"));
}
