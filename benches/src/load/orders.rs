//! What the measuring process asks of the load process, one JSON line each way.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One order; the answer to each is one line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Put a load on a proxy for a while and say what came of it.
    Run(Run),
    /// Open tunnels, send one message through each, and leave them open. Answered with `Ran::default()`.
    Hold { to: SocketAddr, tls: Option<Offer>, tunnels: usize, message_bytes: usize },
    /// Close what `Hold` opened.
    Release,
}

/// What a client of TLS offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Offer {
    /// TLS 1.3, TLS_AES_128_GCM_SHA256 and X25519 and nothing else: every proxy does the same work.
    Equal,
    /// All that rustls has, in its order: every proxy chooses what it likes best.
    Everything,
}

/// When the next operation of a kind starts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// Never.
    Off,
    /// As soon as the one before on that connection has ended.
    Closed,
    /// So many a second whatever the proxy does; latency counts from the moment an operation was due.
    PerSecond(f64),
}

/// One measured stretch of load; kinds may be mixed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The proxy.
    pub(crate) to: SocketAddr,
    /// The proxy's processes, whose CPU time is taken at both ends of the stretch.
    pub(crate) pids: Vec<u32>,
    /// Whether the client speaks TLS to it.
    pub(crate) tls: Option<Offer>,
    /// Tunnels opened beforehand.
    pub(crate) tunnels: usize,
    /// Payload of a message.
    pub(crate) message_bytes: usize,
    /// Echoes over the tunnels, at most one in flight in each.
    pub(crate) echo: Pace,
    /// WebSocket visits: connect, handshake, Close, end. `Closed` keeps `visitors` going.
    pub(crate) visit: Pace,
    /// Visits under way at once, at most.
    pub(crate) visitors: usize,
    /// Keep-alive connections for GETs.
    pub(crate) getters: usize,
    /// GETs over them, at most one in flight in each.
    pub(crate) get: Pace,
    /// `HUP` to the first of `pids` so often, also while warming up; zero: never.
    pub(crate) reload_every_ms: u64,
    /// Load before the measured stretch.
    pub(crate) warm_ms: u64,
    /// The measured stretch.
    pub(crate) run_ms: u64,
}

impl Run {
    /// Nothing yet, against this proxy.
    pub(crate) fn against(to: SocketAddr, pids: Vec<u32>) -> Self {
        Self {
            to,
            pids,
            tls: None,
            tunnels: 0,
            message_bytes: 64,
            echo: Pace::Off,
            visit: Pace::Off,
            visitors: 0,
            getters: 0,
            get: Pace::Off,
            reload_every_ms: 0,
            warm_ms: 300,
            run_ms: 1000,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ran {
    /// Length of the measured stretch.
    pub(crate) seconds: f64,
    /// CPU time the proxy's processes took in it, microseconds.
    pub(crate) proxy_cpu_us: f64,
    /// Part of the stretch in which the proxy was ready to run and could not: others used its core.
    pub(crate) proxy_waited: f64,
    /// What its processes' memory (PSS, bytes) grew by in the stretch; only where it was told to reload.
    pub(crate) grown_bytes: f64,
    /// Share of its core the load itself took (near 1.0: the load is the limit of the throughput).
    pub(crate) load_busy: f64,
    /// Protocol, cipher suite and group that the first connection agreed upon.
    pub(crate) agreed: Option<String>,
    /// Echoes that came back.
    pub(crate) echo: Latencies,
    /// Visits that ended; latency is up to the 101.
    pub(crate) visit: Latencies,
    /// GETs answered.
    pub(crate) get: Latencies,
}

/// Count and latencies (microseconds) of one kind of operation.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Latencies {
    /// Operations.
    pub(crate) count: u64,
    /// Median.
    pub(crate) p50_us: f64,
    /// 99 of 100 were no slower.
    pub(crate) p99_us: f64,
    /// The slowest.
    pub(crate) max_us: f64,
}
