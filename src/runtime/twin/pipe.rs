//! One direction of a connection: bytes on their way, bytes that arrived, reads that wait for them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use super::World;
use super::faults::{Fate, Trouble};
use super::net::Socket;
use crate::runtime::buf::Buf;

/// From one end's sends to the other end's reads.
pub(super) struct Pipe {
    /// Bytes between a send and a read, at most.
    pub window: usize,
    pub state: RefCell<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Sent and not arrived; the oldest arrives first, whatever the events say.
    flight: VecDeque<Parcel>,
    flight_bytes: usize,
    /// No later parcel arrives before this, nanoseconds.
    last_arrival: u64,
    arrived: VecDeque<u8>,
    /// The sender shut its write side.
    pub fin_sent: bool,
    pub fin_arrived: bool,
    /// The reader shut its read side.
    pub read_shut: bool,
    /// The reader's end is closed: bytes that still come are answered with a reset.
    pub reader_closed: bool,
    /// A reset reached the reader.
    pub reset: bool,
    /// A reset reached the sender.
    pub broken: bool,
    /// Reads under way, the oldest first.
    reads: VecDeque<Rc<Operation>>,
    /// Who waits for room.
    waiting: Vec<Waker>,
    sent_total: u64,
    pub fate: Option<Fate>,
    /// A fate struck.
    pub harmed: bool,
}

enum Parcel {
    Bytes(Vec<u8>),
    Fin,
}

/// What an arrival calls for.
#[derive(PartialEq)]
pub(super) enum Arrival {
    Fine,
    /// The reader is gone.
    Refused,
}

/// A read as the kernel holds it: it owns the buffer, and the socket stays open for it.
pub(super) struct Operation {
    pub state: RefCell<Progress>,
    pub waker: RefCell<Option<Waker>>,
}

pub(super) enum Progress {
    Waiting(Buf, Socket),
    /// Done, but the completion has not been seen.
    Done(io::Result<usize>, Buf),
    Seen(io::Result<usize>, Buf),
    Over,
}

impl Pipe {
    pub(super) fn new(window: usize, fate: Option<Fate>) -> Self {
        Self { window, state: RefCell::new(State { fate, ..State::default() }) }
    }

    /// Room for this many bytes.
    pub(super) fn room(&self) -> usize {
        let state = self.state.borrow();
        self.window.saturating_sub(state.flight_bytes + state.arrived.len())
    }

    /// Takes bytes on their way; says when they arrive, and whether the connection breaks over them.
    pub(super) fn push(&self, world: &World, bytes: &[u8]) -> (u64, bool) {
        let mut state = self.state.borrow_mut();
        state.flight.push_back(Parcel::Bytes(bytes.to_vec()));
        state.flight_bytes += bytes.len();
        state.sent_total += bytes.len() as u64;
        let mut breaks = false;
        let mut delay = world.below(world.faults().latency_max.as_nanos() as u64);
        if let Some(fate) = state.fate.filter(|fate| fate.at < state.sent_total) {
            state.fate = None;
            state.harmed = true;
            match fate.what {
                Trouble::Break => breaks = true,
                Trouble::Stall(stall) => delay += stall.as_nanos() as u64,
            }
        }
        (state.arrival(world.now.get() + delay), breaks)
    }

    /// The sender is done; says when the reader hears of it.
    pub(super) fn push_fin(&self, world: &World) -> u64 {
        let mut state = self.state.borrow_mut();
        state.fin_sent = true;
        state.flight.push_back(Parcel::Fin);
        let delay = world.below(world.faults().latency_max.as_nanos() as u64);
        state.arrival(world.now.get() + delay)
    }

    /// The oldest parcel arrives.
    pub(super) fn arrive(&self, world: &World) -> Arrival {
        let mut state = self.state.borrow_mut();
        match state.flight.pop_front() {
            Some(Parcel::Bytes(bytes)) => {
                state.flight_bytes -= bytes.len();
                world.note_bytes(&bytes);
                if state.reader_closed {
                    return Arrival::Refused;
                }
                state.arrived.extend(bytes);
            }
            Some(Parcel::Fin) => state.fin_arrived = true,
            // Lost to a reset.
            None => {}
        }
        drop(state);
        self.pump(world);
        Arrival::Fine
    }

    /// A reset reached the reader: what was on its way is lost, what has arrived perhaps too.
    pub(super) fn reset_arrives(&self, world: &World) {
        let mut state = self.state.borrow_mut();
        state.reset = true;
        state.flight.clear();
        state.flight_bytes = 0;
        if world.chance(world.faults().reset_eats) {
            state.arrived.clear();
        }
        drop(state);
        self.pump(world);
    }

    /// A reset reached the sender.
    pub(super) fn break_off(&self) {
        let mut state = self.state.borrow_mut();
        state.broken = true;
        state.flight.clear();
        state.flight_bytes = 0;
        state.wake_waiting();
    }

    pub(super) fn shut_read(&self, world: &World) {
        self.state.borrow_mut().read_shut = true;
        self.pump(world);
    }

    /// Wakes who waits for room, when there is some or never will be.
    pub(super) fn wake_waiting(&self) {
        self.state.borrow_mut().wake_waiting();
    }

    pub(super) fn wait(&self, waker: &Waker) {
        self.state.borrow_mut().waiting.push(waker.clone());
    }

    /// Nothing is on its way or waits to be read.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.borrow();
        state.flight_bytes + state.arrived.len() == 0
    }

    pub(super) fn unread(&self) -> usize {
        self.state.borrow().arrived.len()
    }

    /// Starts a read.
    pub(super) fn submit(&self, world: &World, operation: Rc<Operation>) {
        self.state.borrow_mut().reads.push_back(operation);
        self.pump(world);
    }

    /// Takes a read back; what it has got by now is lost.
    pub(super) fn cancel(&self, operation: &Rc<Operation>) {
        self.state.borrow_mut().reads.retain(|other| !Rc::ptr_eq(other, operation));
        let rest = operation.state.replace(Progress::Over);
        drop(rest);
    }

    /// Completes reads for which there is something.
    fn pump(&self, world: &World) {
        loop {
            let mut state = self.state.borrow_mut();
            if state.reads.is_empty() || !state.readable() {
                return;
            }
            let Some(read) = state.reads.pop_front() else { return };
            let progress = read.state.replace(Progress::Over);
            let Progress::Waiting(mut buf, socket) = progress else { continue };
            let result = state.fill(world, &mut buf);
            drop(state);
            if matches!(result, Ok(n) if n > 0) {
                self.wake_waiting();
            }
            read.complete(world, result, buf);
            // Perhaps the last hold on the socket: its close comes after its completion.
            drop(socket);
        }
    }
}

impl State {
    fn arrival(&mut self, at: u64) -> u64 {
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }

    /// Whether a read would complete.
    pub(super) fn readable(&self) -> bool {
        !self.arrived.is_empty() || self.reset || self.fin_arrived || self.read_shut
    }

    fn fill(&mut self, world: &World, buf: &mut Buf) -> io::Result<usize> {
        if self.arrived.is_empty() {
            return match self.reset {
                true => Err(io::ErrorKind::ConnectionReset.into()),
                false => Ok(0),
            };
        }
        let mut take = self.arrived.len().min(buf.room());
        if take > 1 && world.chance(world.faults().short_read) {
            take = 1 + world.below(take as u64 - 1) as usize;
        }
        let bytes: Vec<u8> = self.arrived.drain(..take).collect();
        world.note(take as u64);
        Ok(buf.append(&bytes))
    }

    fn wake_waiting(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl Operation {
    fn complete(self: Rc<Self>, world: &World, result: io::Result<usize>, buf: Buf) {
        let faults = world.faults();
        if !world.chance(faults.late_completion) {
            *self.state.borrow_mut() = Progress::Seen(result, buf);
            return self.wake();
        }
        *self.state.borrow_mut() = Progress::Done(result, buf);
        let delay = world.below(faults.late_completion_max.as_nanos() as u64);
        world.later(std::time::Duration::from_nanos(delay), move || self.show());
    }

    fn show(&self) {
        let progress = self.state.replace(Progress::Over);
        *self.state.borrow_mut() = match progress {
            Progress::Done(result, buf) => Progress::Seen(result, buf),
            other => other,
        };
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
