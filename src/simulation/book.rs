//! What really happened, as clients and servers saw it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::ask::Expect;
use super::reply::Reply;
use super::secure::Secure;
use crate::config::Plan;
use crate::runtime::clock::{self, Instant};

/// Shared by everybody in the world.
#[derive(Default)]
pub struct Book {
    /// By request id.
    pub asked: RefCell<BTreeMap<String, Asked>>,
    pub attempts: RefCell<Vec<Attempt>>,
    /// Clients that have not finished.
    pub clients: Cell<usize>,
    pub faults: RefCell<Vec<String>>,
    /// A server said something unasked.
    pub strayed: Cell<bool>,
    /// TLS on every connection, if it is there.
    pub secure: OnceCell<Secure>,
}

/// One request as its client knows it.
#[derive(Debug)]
pub struct Asked {
    pub expect: Expect,
    /// The client asked for the usage itself.
    pub own_usage: bool,
    /// The client waits for its answer, and reads it.
    pub patient: bool,
    pub reply: Option<Reply>,
    /// When the client went away without its whole answer.
    pub left: Option<Instant>,
    /// Its connection had an accident.
    pub harmed: bool,
}

/// One request as a server saw it.
#[derive(Debug)]
pub struct Attempt {
    pub id: String,
    pub status: u16,
    pub began: Instant,
    /// The body that the client is to see.
    pub visible: Vec<u8>,
    /// Where an event ends, in `visible`.
    pub ends: Vec<usize>,
    /// Nobody can tell this answer from its beginning.
    pub open_ended: bool,
    /// The script is that of a server in order.
    pub sound: bool,
    /// The last byte of the answer was handed to the network.
    pub sent_whole: bool,
    pub over: Option<Instant>,
    /// Its connection had an accident.
    pub harmed: bool,
    /// An answer that nobody asked for came before this one on its connection.
    pub after_stray: bool,
}

impl Book {
    /// The plan, with TLS if there is any.
    pub fn secured(&self, plan: Plan) -> Plan {
        match self.secure.get() {
            Some(secure) => secure.plan(plan),
            None => plan,
        }
    }

    pub fn ask(&self, id: &str, asked: Asked) {
        let before = self.asked.borrow_mut().insert(id.to_owned(), asked);
        assert!(before.is_none(), "{id} twice");
    }

    pub fn with_asked<T>(&self, id: &str, f: impl FnOnce(&mut Asked) -> T) -> T {
        f(self.asked.borrow_mut().get_mut(id).expect("a request that was asked"))
    }

    /// The client gave up.
    pub fn leave(&self, id: &str) {
        self.with_asked(id, |asked| {
            asked.left.get_or_insert(clock::now());
            asked.patient = false;
        });
    }

    /// Begins an attempt; its number, and which one of its request it is.
    pub fn begin(&self, id: &str) -> (usize, usize) {
        let mut attempts = self.attempts.borrow_mut();
        let before = attempts.iter().filter(|attempt| attempt.id == id).count();
        attempts.push(Attempt {
            id: id.to_owned(),
            status: 0,
            began: clock::now(),
            visible: Vec::new(),
            ends: Vec::new(),
            sound: false,
            open_ended: false,
            sent_whole: false,
            over: None,
            harmed: false,
            after_stray: false,
        });
        (attempts.len() - 1, before)
    }

    pub fn with_attempt<T>(&self, number: usize, f: impl FnOnce(&mut Attempt) -> T) -> T {
        f(&mut self.attempts.borrow_mut()[number])
    }

    pub fn fault(&self, what: String) {
        self.faults.borrow_mut().push(what);
    }
}

/// Ends an attempt when a server's task lets go of it, however that happens.
pub struct Running {
    pub book: Rc<Book>,
    pub number: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.book.with_attempt(self.number, |attempt| attempt.over = Some(clock::now()));
    }
}
