//! A client connection from accept to close: one request after the other.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use crate::api::fault::Fault;
use crate::config::plan::Plan;
use crate::http::tls::Tls;
use crate::http::wire::Wire;
use crate::lifecycle::permit::{Connection as ConnectionKind, Permit};
use crate::relay::core::Core;
use crate::relay::inbound::Inbound;
use crate::relay::serve::{refuse_head, serve};
use crate::runtime::socket::Socket;
use crate::runtime::task;
use crate::shard::handles::{Handle, Handles};
use crate::shard::http1::{Http1, Next};
use crate::shard::linger;
use crate::shard::refusal;
use crate::shard::room::{Descriptors, Room};

/// What a shard's connections share.
pub struct Clients {
    pub core: Rc<Core>,
    pub handles: Rc<Handles>,
    pub draining: Rc<Cell<bool>>,
    /// Connections that were one too many and have not ended yet.
    pub refused: Rc<Handles>,
    /// What the process may have open.
    descriptors: Descriptors,
    room: Cell<Room>,
}

impl Clients {
    /// None yet.
    pub fn new(core: Rc<Core>, descriptors: Descriptors, draining: bool) -> Self {
        let room = Cell::new(descriptors.room(core.epoch().plan()));
        core.upstreams_max.set(room.get().upstreams as u64);
        let (handles, refused) = Default::default();
        Self { core, handles, draining: Rc::new(Cell::new(draining)), refused, descriptors, room }
    }

    /// How many connections there may be.
    pub fn room(&self) -> Room {
        self.room.get()
    }

    /// Goes over to what another plan says of that.
    pub fn follow(&self, plan: &Plan) {
        self.room.set(self.descriptors.room(plan));
        self.core.upstreams_max.set(self.room().upstreams as u64);
    }
}

/// A connection's claims on the shard.
struct Claims {
    clients: Rc<Clients>,
    handle: Handle,
    _permit: Permit<ConnectionKind>,
}

/// Takes a fresh connection in, or turns it away where a limit is reached.
pub fn admit(clients: &Rc<Clients>, socket: Socket, peer: SocketAddr) {
    let epoch = clients.core.epoch();
    let limits = &epoch.plan().limits;
    let counts = &epoch.series().shard;
    let permit = match clients.handles.count() < clients.room().clients {
        true => clients.core.kit.ledgers.take::<ConnectionKind>(1),
        false => None,
    };
    let per_address = limits.connections_per_address_max;
    let handle = permit
        .and_then(|p| Some((p, clients.handles.enter(socket.clone(), peer.ip(), per_address)?)));
    let Some((permit, handle)) = handle else {
        counts.connections_refused.inc();
        match epoch.plan().server.tls {
            None => refusal::refuse(clients, socket, peer),
            Some(_) => socket.shutdown(std::net::Shutdown::Both),
        }
        return;
    };
    counts.connections_accepted.inc();
    counts.connections_open.add(1);
    let claims = Claims { clients: clients.clone(), handle, _permit: permit };
    task::spawn(guarded(claims, socket, peer));
}

/// A panic ends this connection only.
async fn guarded(claims: Claims, socket: Socket, peer: SocketAddr) {
    let clients = claims.clients.clone();
    let shutdown = socket.clone();
    if task::caught(run(claims, socket, peer)).await.is_err() {
        shutdown.shutdown(std::net::Shutdown::Both);
        clients.core.epoch().series().shard.panics.inc();
    }
}

async fn run(claims: Claims, socket: Socket, peer: SocketAddr) {
    let clients = &claims.clients;
    let core = &clients.core;
    let Some(mut client) = open(&claims, socket).await else { return };
    let mut inbound = Inbound::new(peer);
    loop {
        match client.next(&mut inbound, || core.epoch()).await {
            Next::End => break,
            Next::Request => serve(core, core.epoch(), &mut inbound, &mut client).await,
            Next::Fault(fault) => refuse(core, &mut inbound, &mut client, fault).await,
        }
        inbound.release();
        if !client.continues() {
            break;
        }
    }
    let epoch = core.epoch();
    linger::close(client, epoch.plan().timeouts.linger).await;
}

async fn refuse(core: &Rc<Core>, inbound: &mut Inbound, client: &mut Http1, fault: Fault) {
    refuse_head(core, core.epoch(), inbound, client, fault).await;
}

/// Speaks TLS where the configuration says so.
async fn open(claims: &Claims, socket: Socket) -> Option<Http1> {
    let core = &claims.clients.core;
    let epoch = core.epoch();
    let plan = epoch.plan();
    let wire = match &plan.server.tls {
        None => Wire::plain(socket, core.kit.pool.clone()),
        Some(config) => {
            Wire::secured(socket, core.kit.pool.clone(), Tls::server(config.clone()).ok()?)
        }
    };
    let notice = claims.handle.notice();
    poll_fn(|cx| {
        notice.listen(cx);
        Poll::Ready(())
    })
    .await;
    let mut client = Http1::new(wire, core.kit.clone(), notice);
    if plan.server.tls.is_some() && !client.handshake(plan.timeouts.handshake).await {
        return None;
    }
    Some(client)
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.clients.core.epoch().series().shard.connections_open.sub(1);
    }
}
