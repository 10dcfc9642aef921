//! When a tunnel has stood still for too long, and how it leaves when it is asked to.

use std::sync::Arc;

use super::{Lent, Next, Socket, Tunnel};
use crate::handover::{EndedBy, Side, Timers};
use crate::remote::Leave;

/// The coarse clock is behind by up to a tick; deadlines are put off by the longest one, so that none fires early.
const CLOCK_TICK_MS: u64 = 10;

/// Milliseconds; 0 is without end.
pub(super) struct CompactTimers {
    idle: u32,
    send: [u32; 2],
    fin: u32,
}

/// A tunnel that was asked to leave.
pub(super) struct Leaving {
    how: Arc<Leave>,
    /// When to say goodbye; once that was said, when to be cut.
    at_ms: u64,
    pub(super) said: bool,
}

impl Leaving {
    /// Whether this side is told (or as good as: the frame waits) that we leave.
    pub(super) fn has_told(&self, side: Side) -> bool {
        let frame = match side {
            Side::Client => &self.how.client_frame,
            Side::Upstream => &self.how.upstream_frame,
        };
        self.said && !frame.is_empty()
    }
}

impl<S: Socket> Tunnel<S> {
    /// Asks the tunnel to leave at a time; asked again, the earlier time holds.
    pub(crate) fn leave(&mut self, how: Arc<Leave>, at_ms: u64) {
        let leaving = &mut self.rare.get_or_insert_default().leaving;
        if leaving.as_ref().is_none_or(|leaving| at_ms < leaving.at_ms) {
            let said = leaving.as_ref().is_some_and(|leaving| leaving.said);
            *leaving = Some(Leaving { how, at_ms, said });
        }
        self.nearer = true;
    }

    /// Whether it is time for [`Tunnel::say_goodbye`].
    pub(crate) fn says_goodbye_by(&self, now_ms: u64) -> bool {
        self.leaving().is_some_and(|leaving| !leaving.said && leaving.at_ms <= now_ms)
    }

    /// Writes the frames it was asked to leave with, and allows for the answer. A side that was told hears nothing more
    /// of the other.
    pub(crate) fn say_goodbye(&mut self, lent: &mut Lent<'_>) -> Next {
        let Some(leaving) = self.rare.as_mut().and_then(|rare| rare.leaving.as_mut()) else {
            return Next::Wait;
        };
        leaving.said = true;
        leaving.at_ms = lent.now_ms + leaving.how.grace_ms;
        let how = leaving.how.clone();
        let mut next = Next::Wait;
        for (to, frame) in [(Side::Client, &how.client_frame), (Side::Upstream, &how.upstream_frame)] {
            if !frame.is_empty() {
                next = next.max(self.inject(to, frame, lent).1);
            }
        }
        next
    }

    /// When to look at the clock again, in milliseconds; `None`: never.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.deadlines().into_iter().flatten().map(|(at, _)| at).min()
    }

    /// The timer that has fired by now.
    pub(crate) fn timed_out(&self, now_ms: u64) -> Option<EndedBy> {
        let fired = self.deadlines().into_iter().flatten().filter(|(at, _)| *at <= now_ms);
        fired.min_by_key(|(at, _)| *at).map(|(_, why)| why)
    }

    pub(super) fn leaving(&self) -> Option<&Leaving> {
        self.rare.as_ref()?.leaving.as_ref()
    }

    fn deadlines(&self) -> [Option<(u64, EndedBy)>; 5] {
        let [client, upstream] = &self.pumps;
        let after = |since: u64, ms: u32| (ms > 0).then(|| since + u64::from(ms) + CLOCK_TICK_MS);
        let send = |to: Side| {
            let since = self.pumps[to.other() as usize].waiting_since_ms()?;
            Some((after(since, self.timers.send[to as usize])?, EndedBy::SendTimeout(to)))
        };
        let moved_ms = client.moved_ms().max(upstream.moved_ms());
        // The direction that has ended no longer moves, and its end counts as its last movement.
        let half_closed = !(client.is_open() && upstream.is_open());
        let fin = if half_closed { after(moved_ms, self.timers.fin) } else { None };
        [
            self.leaving().map(|leaving| (leaving.at_ms, EndedBy::Shutdown)),
            after(moved_ms, self.timers.idle).map(|at| (at, EndedBy::IdleTimeout)),
            send(Side::Client),
            send(Side::Upstream),
            fin.map(|at| (at, EndedBy::FinTimeout)),
        ]
    }
}

impl From<Timers> for CompactTimers {
    fn from(timers: Timers) -> CompactTimers {
        let ms = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
        CompactTimers {
            idle: ms(timers.idle_ms),
            send: [ms(timers.send_client_ms), ms(timers.send_upstream_ms)],
            fin: ms(timers.fin_ms),
        }
    }
}
