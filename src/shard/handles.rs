//! The shard's open client connections, for those who must reach them: drain and stop.
//!
//! A drain only gives notice: a request may be on its way, or lie unread in the kernel, so each connection
//! decides for itself when it has nothing to do.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::runtime::socket::Socket;

/// All of a shard's client connections.
#[derive(Default)]
pub struct Handles {
    next: Cell<u64>,
    /// In the order of their coming, so that a simulated run repeats.
    open: RefCell<BTreeMap<u64, Entry>>,
    noticed: Cell<bool>,
    per_address: RefCell<HashMap<IpAddr, usize, ahash::RandomState>>,
}

/// A connection, and the word that can be given to it.
type Entry = (Socket, Rc<Notice>);

/// One connection's entry; it leaves with its drop.
pub struct Handle {
    handles: Rc<Handles>,
    id: u64,
    notice: Rc<Notice>,
    address: Option<IpAddr>,
}

/// The word to a connection that it should go once it has nothing to do; and later, that it must go now.
#[derive(Default)]
pub struct Notice {
    given: Cell<bool>,
    dismissed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Of the connection's task, which stays the same.
    task: RefCell<Option<Waker>>,
}

impl Notice {
    /// Whether it was given.
    pub fn given(&self) -> bool {
        self.given.get()
    }

    /// As [`Notice::given`]; wakes the task of `cx` when it is given later.
    pub fn heard(&self, cx: &mut Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !self.given() && !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.given()
    }

    fn give(&self) {
        self.given.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Remembers whom to wake for a dismissal.
    pub fn listen(&self, cx: &Context<'_>) {
        *self.task.borrow_mut() = Some(cx.waker().clone());
    }

    /// Whether the connection must end what it is doing.
    pub fn dismissed(&self) -> bool {
        self.dismissed.get()
    }

    fn dismiss(&self) {
        self.dismissed.set(true);
        if let Some(waker) = &*self.task.borrow() {
            waker.wake_by_ref();
        }
    }
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
        let notice = Rc::new(Notice::default());
        notice.given.set(self.noticed.get());
        self.open.borrow_mut().insert(id, (socket, notice.clone()));
        Some(Handle { handles: self.clone(), id, notice, address })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Gives notice to every connection, and to those that still come.
    pub fn give_notice(&self) {
        self.noticed.set(true);
        self.open.borrow().values().for_each(|(_, notice)| notice.give());
    }

    /// Has every connection end what it is doing, and tell its client so.
    pub fn dismiss_all(&self) {
        self.open.borrow().values().for_each(|(_, notice)| notice.dismiss());
    }

    /// Ends all of them at once.
    pub fn end_all(&self) {
        for (socket, _) in self.open.borrow().values() {
            socket.shutdown(Shutdown::Both);
        }
    }
}

impl Handle {
    /// Where its connection hears that it should go.
    pub fn notice(&self) -> Rc<Notice> {
        self.notice.clone()
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
