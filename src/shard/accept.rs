//! Accepting connections, and handing fresh ones to the shard that has the fewest.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::route::precise;
use crate::route::router::News;
use crate::runtime::bell::Bell;
use crate::runtime::clock;
use crate::runtime::listener::Listener;
use crate::runtime::socket::Socket;
use crate::shard::connection::{Clients, admit};
use crate::shard::gossip;
use crate::telemetry::shard::ShardState;

/// Fresh connections that may wait for one shard to take them over.
pub const HANDED_MAX: usize = 1024;
/// Connections taken when a shard stops to listen: more do not wait in the kernel by default.
const BACKLOG_MAX: usize = 4096;
/// Pause after the kernel has refused a connection (out of descriptors, say).
const BACK_OFF: Duration = Duration::from_millis(50);

/// The way to hand a fresh connection to a shard.
#[derive(Clone)]
pub struct Lane {
    pub fresh: Arc<ArrayQueue<(OwnedFd, SocketAddr)>>,
    pub bell: Bell,
    /// What other shards learned of prompts.
    pub news: Arc<ArrayQueue<News>>,
    /// Between the shard and the control plane.
    pub precise: Arc<precise::Lane>,
}

impl Lane {
    /// To the shard that listens to `bell`, one of so many.
    pub fn new(bell: Bell, shards: usize) -> Self {
        let fresh = Arc::new(ArrayQueue::new(HANDED_MAX));
        let news = Arc::new(gossip::queue(shards));
        Self { fresh, bell, news, precise: Arc::default() }
    }
}

/// Accepts for as long as it is polled.
pub async fn accept_all(clients: Rc<Clients>, listener: Rc<Listener>, lanes: Rc<[Lane]>) {
    loop {
        let refused = listener.ready().await.is_err() || !batch(&clients, &listener, &lanes);
        if refused {
            clock::sleep(BACK_OFF).await;
        }
    }
}

/// Takes what waits; `false` when the kernel refused.
pub fn batch(clients: &Rc<Clients>, listener: &Listener, lanes: &[Lane]) -> bool {
    for _ in 0..clients.room().fresh {
        match listener.accept() {
            Ok((fd, peer)) => place(clients, lanes, fd, peer),
            // The client has gone again: no reason to let the others wait.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}

/// Takes all that waits, for the last time. No other shard gets any: it may be gone by then.
pub fn backlog(clients: &Rc<Clients>, listener: &Listener) {
    for _ in 0..BACKLOG_MAX {
        let Ok((fd, peer)) = listener.accept() else { return };
        take(clients, fd, peer);
    }
}

/// Keeps a connection, or hands it to the shard that has the fewest.
fn place(clients: &Rc<Clients>, lanes: &[Lane], fd: OwnedFd, peer: SocketAddr) {
    let fd = match elsewhere(clients, lanes) {
        Some(lane) => match lane.fresh.push((fd, peer)) {
            Ok(()) => {
                clients.core.epoch().series().shard.connections_handed_off.inc();
                lane.bell.ring();
                return;
            }
            Err((fd, _)) => fd,
        },
        None => fd,
    };
    take(clients, fd, peer);
}

/// The lane of a shard that would still have fewer connections than this one.
fn elsewhere<'a>(clients: &Rc<Clients>, lanes: &'a [Lane]) -> Option<&'a Lane> {
    if lanes.len() < 2 {
        return None;
    }
    let epoch = clients.core.epoch();
    let series = epoch.series();
    let load = |(peer, lane): (&Arc<crate::telemetry::ShardSeries>, &Lane)| {
        peer.connections_open.get() + lane.fresh.len() as u64
    };
    let loads = series.peers.iter().zip(lanes).enumerate();
    let serving = loads.filter(|(_, (peer, _))| peer.state() == ShardState::Serving);
    let (least, load) = serving.map(|(at, peer)| (at, load(peer))).min_by_key(|(_, load)| *load)?;
    let mine = series.shard.connections_open.get();
    (least != usize::from(series.index) && load + 1 < mine).then(|| &lanes[least])
}

/// Takes a connection into this shard.
pub fn take(clients: &Rc<Clients>, fd: OwnedFd, peer: SocketAddr) {
    if let Ok(socket) = Socket::from_accepted(fd) {
        admit(clients, socket, peer);
    }
}
