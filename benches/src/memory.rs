//! Memory of a tunnel that does nothing.
//!
//! A fresh process is looked at, given tunnels (1 KB of browser headers each, one message through each, `access_log`
//! on), and looked at again once its size stands still; the difference is divided by the tunnels.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::cgroup::Cgroup;
use crate::compare::Sample;
use crate::load::{Load, Offer, Order};
use crate::machine::Core;
use crate::peers::{Peer, Running, Setting};
use crate::process;

/// Tunnels held, where the descriptor limit allows.
const TUNNELS: u64 = 5_000;
/// Looks at a growing process, 100 ms apart, before the last is taken as it is.
const LOOKS_MAX: usize = 50;

/// How many tunnels are held under this limit of descriptors (a proxy needs two for each).
pub(crate) fn tunnels(descriptors: u64) -> usize {
    TUNNELS.min((descriptors.saturating_sub(700) / 2).max(1)) as usize
}

/// Bytes per idle tunnel, of one fresh start of a peer.
pub(crate) struct PerTunnel {
    pub(crate) pss: Sample,
    pub(crate) cgroup: Option<Sample>,
}

/// What is held.
#[derive(Clone, Copy)]
pub(crate) struct Hold {
    pub(crate) tls: Option<Offer>,
    pub(crate) tunnels: usize,
}

/// Starts this peer, and measures it in a cgroup below `parent` if there is one.
pub(crate) fn measure(
    peer: &Peer,
    core: Core,
    setting: Setting<'_>,
    load: &mut Load,
    hold: Hold,
    parent: Option<&Path>,
) -> io::Result<PerTunnel> {
    let Hold { tls, tunnels } = hold;
    // Declared before the proxy, and so dropped after it.
    let cgroup = parent.map(|parent| Cgroup::create(parent, &peer.name)).transpose()?;
    let proxy = peer.start(core, setting, cgroup.as_ref())?;
    let fresh = settled(&proxy, cgroup.as_ref())?;
    load.order(&Order::Hold { to: proxy.address, tls, tunnels, message_bytes: 64 })?;
    let full = settled(&proxy, cgroup.as_ref())?;
    load.order(&Order::Release)?;
    let each = |full: u64, fresh: u64| Sample {
        cost: (full as f64 - fresh as f64) / tunnels as f64,
        ..Sample::default()
    };
    let cgroup = full.1.zip(fresh.1).map(|(full, fresh)| each(full, fresh));
    Ok(PerTunnel { pss: each(full.0, fresh.0), cgroup })
}

/// PSS and the cgroup's bytes once the former stands still.
fn settled(proxy: &Running, cgroup: Option<&Cgroup>) -> io::Result<(u64, Option<u64>)> {
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
    Ok((before, cgroup.map(Cgroup::bytes).transpose()?))
}
