//! The shard's open client connections, for those who must reach them: drain and stop.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;

use crate::runtime::socket::Socket;

/// All of a shard's client connections.
#[derive(Default)]
pub struct Handles {
    next: Cell<u64>,
    /// In the order of their coming, so that a simulated run repeats.
    open: RefCell<BTreeMap<u64, (Socket, Rc<Cell<bool>>)>>,
    per_address: RefCell<HashMap<IpAddr, usize, ahash::RandomState>>,
}

/// One connection's entry; it leaves with its drop.
pub struct Handle {
    handles: Rc<Handles>,
    id: u64,
    idle: Rc<Cell<bool>>,
    address: Option<IpAddr>,
}

impl Handles {
    /// Enters a connection. `per_address_max` of 0 counts nothing.
    pub fn enter(
        self: &Rc<Self>,
        socket: Socket,
        address: IpAddr,
        per_address_max: usize,
    ) -> Option<Handle> {
        let address = (per_address_max > 0).then_some(address);
        if let Some(address) = address {
            let mut counts = self.per_address.borrow_mut();
            let count = counts.entry(address).or_insert(0);
            if *count >= per_address_max {
                return None;
            }
            *count += 1;
        }
        let id = self.next.replace(self.next.get() + 1);
        let idle = Rc::new(Cell::new(true));
        self.open.borrow_mut().insert(id, (socket, idle.clone()));
        Some(Handle { handles: self.clone(), id, idle, address })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Ends the connections that have no request under way.
    pub fn end_idle(&self) {
        for (socket, idle) in self.open.borrow().values() {
            if idle.get() {
                socket.shutdown(Shutdown::Read);
            }
        }
    }

    /// Ends all of them at once.
    pub fn end_all(&self) {
        for (socket, _) in self.open.borrow().values() {
            socket.shutdown(Shutdown::Both);
        }
    }
}

impl Handle {
    /// Says whether a request is under way.
    pub fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.handles.open.borrow_mut().remove(&self.id);
        let Some(address) = self.address else { return };
        let mut counts = self.handles.per_address.borrow_mut();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}
