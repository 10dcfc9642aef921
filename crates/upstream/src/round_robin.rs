//! Smooth weighted round robin, nginx's default method.
//!
//! Each pick pays every usable peer its effective weight and charges the one that is owed most the sum of what was
//! paid, which spreads a heavy peer's turns (`a a b a c a a` for 5, 1, 1) instead of bunching them.

use crate::{Chooser, Method, Peers, PickContext};

/// The default balancing method.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl Method for RoundRobin {
    fn chooser(&self, _: &PickContext<'_>) -> Box<dyn Chooser> {
        Box::new(RoundRobin)
    }
}

impl RoundRobin {
    /// Round robin over the usable ones of some peers: what other methods do among equals.
    pub fn pick_among(peers: &mut Peers<'_>, some: impl IntoIterator<Item = usize>) -> Option<usize> {
        let mut best: Option<(usize, i64)> = None;
        let mut total = 0;
        for index in some {
            if !peers.usable(index) {
                continue;
            }
            let owed = pay(peers, index, &mut total);
            if best.is_none_or(|(_, most)| owed > most) {
                best = Some((index, owed));
            }
        }
        let (index, _) = best?;
        peers.weights(index).current -= total;
        Some(index)
    }
}

impl Chooser for RoundRobin {
    fn pick(&mut self, peers: &mut Peers<'_>) -> Option<usize> {
        Self::pick_among(peers, 0..peers.len())
    }
}

/// Pays a peer its effective weight; what it is owed now.
fn pay(peers: &mut Peers<'_>, index: usize, total: &mut i64) -> i64 {
    let weight = i64::from(peers.peer(index).spec.weight);
    let owed = peers.weights(index);
    owed.current += owed.effective;
    *total += owed.effective;
    // A peer that failed gets its weight back a step at a time.
    if owed.effective < weight {
        owed.effective += 1;
    }
    owed.current
}
