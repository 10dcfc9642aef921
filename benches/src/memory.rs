//! Memory of a tunnel that does nothing.
//!
//! A fresh process is looked at, given tunnels (1 KB of browser headers each, one message through each, `access_log`
//! on), and looked at again once its size stands still; the difference is divided by the tunnels.

use std::io;
use std::time::Duration;

use crate::compare::Sample;
use crate::load::{Load, Order};
use crate::machine::Core;
use crate::peers::{Peer, Running};
use crate::process;

/// Tunnels held, where the descriptor limit allows.
const TUNNELS: u64 = 5_000;
/// Looks at a growing process, 100 ms apart, before the last is taken as it is.
const LOOKS_MAX: usize = 50;

/// How many tunnels are held under this limit of descriptors (a proxy needs two for each).
pub(crate) fn tunnels(descriptors: u64) -> usize {
    TUNNELS.min(descriptors.saturating_sub(500) / 2 - 100) as usize
}

/// One fresh process of this peer: bytes per idle tunnel.
pub(crate) fn measure(peer: &Peer, core: Core, load: &mut Load, tunnels: usize) -> io::Result<Sample> {
    let ports = load.ports.clone();
    let proxy = peer.start(core, &ports, None)?;
    let fresh = settled(&proxy)?;
    load.order(&Order::Hold { to: proxy.address, tunnels, message_bytes: 64 })?;
    let full = settled(&proxy)?;
    load.order(&Order::Release)?;
    let cost = (full as f64 - fresh as f64) / tunnels as f64;
    Ok(Sample { cost, ..Sample::default() })
}

fn settled(proxy: &Running) -> io::Result<u64> {
    let pids = proxy.pids()?;
    let mut before = process::pss_bytes(&pids)?;
    for _ in 0..LOOKS_MAX {
        std::thread::sleep(Duration::from_millis(100));
        let now = process::pss_bytes(&pids)?;
        if now == before {
            break;
        }
        before = now;
    }
    Ok(before)
}
