//! A shard in the twin's world: its epochs and its connections are the real ones, its listener and its
//! doorbell are not.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::relay::core::Core;
use crate::route::views::Bound;
use crate::runtime::kit::Kit;
use crate::runtime::socket::Socket;
use crate::runtime::task;
use crate::runtime::twin::net;
use crate::shard::connection::{Clients, admit};
use crate::shard::link::Command;
use crate::shard::room::Descriptors;
use crate::shard::run::{Inbox, Life, Phase, epochs, limit};

/// A shard without a thread.
pub struct Shard {
    inbox: Inbox,
    life: Life,
    listener: net::Listener,
    over: Cell<bool>,
}

impl Shard {
    /// Starts its epochs, and accepts at `address` until it drains.
    pub fn start(bound: Arc<Bound>, seed: u64, address: SocketAddr) -> Rc<Shard> {
        let kit = Kit::new(bound.plan.runtime.tick, seed);
        limit(&kit, &bound.plan.limits);
        let core = Core::new(kit, bound.clone());
        let clients = Rc::new(Clients::new(core, Descriptors::UNBOUNDED, false));
        let inbox = Inbox::new(clients, Rc::new([]));
        let life = Life {
            bound: RefCell::new(bound),
            listener: RefCell::new(None),
            phase: Cell::new(Phase::Serving),
        };
        let listener = net::listen(address);
        let shard = Rc::new(Shard { inbox, life, listener, over: Cell::new(false) });
        task::spawn(shard.clone().run());
        task::spawn(shard.clone().accept());
        shard
    }

    async fn run(self: Rc<Self>) {
        epochs(&self.inbox, &self.life, std::future::pending()).await;
        self.over.set(true);
    }

    async fn accept(self: Rc<Self>) {
        while let Some((socket, peer)) = self.listener.accept().await {
            admit(self.clients(), Socket::from_twin(socket), peer);
        }
    }

    /// Its connections and what they share.
    pub fn clients(&self) -> &Rc<Clients> {
        &self.inbox.clients
    }

    /// Does what the control plane would tell it by queue and bell.
    pub fn tell(&self, command: Command) {
        if matches!(command, Command::Drain | Command::Stop) {
            while let Some((socket, peer)) = self.listener.try_accept() {
                admit(self.clients(), Socket::from_twin(socket), peer);
            }
            self.listener.close();
        }
        self.inbox.obey(command, &self.life);
    }

    /// Whether its last epoch is over: after a drain or a stop.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }
}
