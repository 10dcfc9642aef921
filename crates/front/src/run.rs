//! A worker's thread: one loop for its tasks and its tunnels (D4, D5).

use std::rc::Rc;
use std::sync::Arc;

use http::Snapshot;
use reactor::Reactor;
use relay::{Goodbye, Remote, Tunnels};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::accept::Acceptor;
use crate::h1;
use crate::handle::{Command, Handle, Load};
use crate::shared::Shared;
use crate::snapshots::{Retired, Snapshots};
use crate::tunnel::{Closing, Guests, Relay};
use crate::worker::Worker;

/// What a worker is made of, on the way to its thread.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) load: Load,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) retired: Retired,
    pub(crate) reactor: Reactor,
    pub(crate) tunnels: Tunnels,
    pub(crate) remote: Remote,
    pub(crate) closing: Arc<Closing>,
    pub(crate) goodbye: Arc<Goodbye>,
    pub(crate) commands: UnboundedReceiver<Command>,
    pub(crate) others: Vec<Handle>,
}

/// Runs a worker until it is told to stop.
pub(crate) fn thread(parts: Parts) {
    let guests = Rc::new(Guests::new(parts.tunnels));
    let relay = Relay {
        guests: guests.clone(),
        remote: parts.remote,
        closing: parts.closing,
        goodbye: parts.goodbye,
    };
    let snapshots = Snapshots::new(parts.snapshot, parts.retired);
    let worker = Rc::new(Worker::new(parts.shared, parts.load, snapshots, relay));
    http::log::gather();
    parts.reactor.run(&*guests, obey(worker, parts.commands, parts.others));
    http::log::end_of_turn();
}

/// Does what the worker is told, until that is to stop.
async fn obey(worker: Rc<Worker>, mut commands: UnboundedReceiver<Command>, others: Vec<Handle>) {
    let mut acceptor = Acceptor::new(worker.clone(), others);
    while let Some(command) = commands.recv().await {
        match command {
            // Connections between requests notice at their next one.
            Command::Install(snapshot) => worker.install(snapshot),
            Command::Listen(listening, done) => acceptor.listen(listening, done),
            Command::Serve(accepted) => h1::serve(&worker, accepted),
            Command::Settled => worker.snapshots.settled(),
            Command::Quit => worker.quit(),
            Command::Retire(generation) => worker.retire(generation),
            Command::Shed(count) => {
                // Others may have made room since.
                worker.sleepers.shed(count.min(worker.shared.short_by()));
            }
            Command::Stop => return,
        }
    }
}
