//! TCP without a kernel: listeners, connects, sockets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::World;
use super::faults::Fate;
use super::pipe::{Arrival, Operation, Pipe, Progress};
use crate::runtime::buf::Buf;
use crate::runtime::socket::Pulse;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 256;
/// How long a cancelled read may still take bytes.
const CANCEL_NANOS_MAX: u64 = 200_000;

/// One end of a connection. Clones are the same end; it closes with the last of them and the last read.
#[derive(Clone)]
pub struct Socket(Rc<End>);

struct End {
    link: Rc<Link>,
    /// Which of the link's two ends this is.
    side: usize,
}

/// Two pipes; `pipes[side]` carries what `side` sends.
struct Link {
    pipes: [Pipe; 2],
    addresses: [SocketAddr; 2],
}

/// Connections that wait to be accepted at one address.
pub struct Hub {
    waiting: RefCell<VecDeque<Socket>>,
    waker: Cell<Option<Waker>>,
    closed: Cell<bool>,
    address: SocketAddr,
}

/// Accepts at an address until it is dropped.
pub struct Listener(Rc<Hub>);

/// Starts to listen.
///
/// # Panics
/// When somebody does already.
pub fn listen(address: SocketAddr) -> Listener {
    let world = super::world();
    let hub = Rc::new(Hub {
        waiting: RefCell::default(),
        waker: Cell::new(None),
        closed: Cell::new(false),
        address,
    });
    let before = world.listeners.borrow_mut().insert(address, Rc::downgrade(&hub));
    assert!(before.is_none(), "{address} is taken");
    Listener(hub)
}

impl Listener {
    /// The next connection, with its peer's address; `None` once it is closed.
    pub async fn accept(&self) -> Option<(Socket, SocketAddr)> {
        std::future::poll_fn(|cx| match self.try_accept() {
            Some(accepted) => Poll::Ready(Some(accepted)),
            None if self.0.closed.get() => Poll::Ready(None),
            None => {
                self.0.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// The next connection, if one waits.
    pub fn try_accept(&self) -> Option<(Socket, SocketAddr)> {
        let socket = self.0.waiting.borrow_mut().pop_front()?;
        let peer = socket.0.link.addresses[1 - socket.0.side];
        Some((socket, peer))
    }

    /// Stops listening; who still waits is let go.
    pub fn close(&self) {
        // After the end of a world nobody is there to be told.
        if super::active() && !self.0.closed.replace(true) {
            super::world().listeners.borrow_mut().remove(&self.0.address);
            self.0.waiting.take();
            self.0.wake();
        }
    }
}

impl Hub {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

/// Connects. May be dropped half way: the peer then sees a connection that ends at once.
///
/// # Errors
/// `ConnectionRefused` where nobody listens, or where the seed says so.
pub async fn connect(address: SocketAddr) -> io::Result<Socket> {
    let world = super::world();
    let faults = world.faults();
    super::sleep(latency(&world)).await;
    if world.chance(faults.unanswered) {
        std::future::pending::<()>().await;
    }
    let hub = world.listeners.borrow().get(&address).and_then(std::rc::Weak::upgrade);
    let hub = hub.filter(|_| !world.chance(faults.refused));
    let Some(hub) = hub.filter(|hub| hub.waiting.borrow().len() < BACKLOG) else {
        return Err(io::ErrorKind::ConnectionRefused.into());
    };
    let (near, far) = pair(&world, address);
    hub.waiting.borrow_mut().push_back(far);
    hub.wake();
    super::sleep(latency(&world)).await;
    Ok(near)
}

fn latency(world: &World) -> Duration {
    Duration::from_nanos(world.below(world.faults().latency_max.as_nanos() as u64))
}

fn pair(world: &World, address: SocketAddr) -> (Socket, Socket) {
    let number = world.identity();
    let host = Ipv4Addr::from_bits(0x0a00_0000 | (number >> 12) as u32);
    let near = SocketAddr::new(IpAddr::V4(host), 10_000 + (number & 0xfff) as u16);
    let (low, high) = world.faults().window_bytes;
    let pipe = || Pipe::new(world.range(low, high) as usize, Fate::draw(world));
    let link = Rc::new(Link { pipes: [pipe(), pipe()], addresses: [near, address] });
    let end = |side| Socket(Rc::new(End { link: link.clone(), side }));
    (end(0), end(1))
}

impl Link {
    /// A parcel of `side` arrives at `at`.
    fn schedule(self: &Rc<Self>, world: &World, side: usize, at: u64) {
        let link = self.clone();
        let delay = Duration::from_nanos(at.saturating_sub(world.now.get()));
        world.later(delay, move || {
            let world = super::world();
            if link.pipes[side].arrive(&world) == Arrival::Refused {
                link.reset(&world, 1 - side);
            }
        });
    }

    /// `side` sends a reset: dead at once on this side, a little later on the other.
    fn reset(self: &Rc<Self>, world: &World, side: usize) {
        self.pipes[side].break_off();
        self.pipes[side].state.borrow_mut().fin_sent = true;
        let link = self.clone();
        world.later(latency(world), move || {
            let world = super::world();
            link.pipes[1 - side].break_off();
            link.pipes[side].reset_arrives(&world);
        });
    }
}

impl Socket {
    fn outgoing(&self) -> &Pipe {
        &self.0.link.pipes[self.0.side]
    }

    fn incoming(&self) -> &Pipe {
        &self.0.link.pipes[1 - self.0.side]
    }

    /// Reads: begins with the first poll, like a kernel's. Dropped after that, it may have taken bytes with
    /// it, or may still do so.
    pub fn read(self, buf: Buf) -> Reading {
        Reading(Stage::New(self, buf))
    }

    /// Sends what fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing does, `BrokenPipe` after the end, `ConnectionReset` after a reset.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        let world = super::world();
        let faults = world.faults();
        let pipe = self.outgoing();
        if pipe.state.borrow().broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if pipe.state.borrow().fin_sent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut take = bytes.len().min(pipe.room());
        if bytes.is_empty() {
            return Ok(0);
        }
        if take == 0 || world.chance(faults.would_block) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if take > 1 && world.chance(faults.short_write) {
            take = 1 + world.below(take as u64 - 1) as usize;
        }
        let (at, breaks) = pipe.push(&world, &bytes[..take]);
        self.0.link.schedule(&world, self.0.side, at);
        if breaks {
            // A middlebox resets both.
            self.0.link.reset(&world, self.0.side);
            self.0.link.reset(&world, 1 - self.0.side);
        }
        Ok(take)
    }

    /// Waits for room, or for the end.
    pub async fn drained(self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let pipe = self.outgoing();
            let over = pipe.state.borrow().broken || pipe.state.borrow().fin_sent;
            if over || pipe.room() > 0 {
                return Poll::Ready(Ok(()));
            }
            pipe.wait(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Ends one or both directions.
    pub fn shutdown(&self, how: Shutdown) {
        let world = super::world();
        if how != Shutdown::Write {
            self.incoming().shut_read(&world);
        }
        if how != Shutdown::Read && !self.outgoing().state.borrow().fin_sent {
            let at = self.outgoing().push_fin(&world);
            self.0.link.schedule(&world, self.0.side, at);
            self.outgoing().wake_waiting();
        }
    }

    /// Breaks the connection.
    pub fn reset(&self) {
        let world = super::world();
        self.0.link.reset(&world, self.0.side);
        self.incoming().reset_arrives(&world);
    }

    /// Looks without taking.
    pub fn pulse(&self) -> Pulse {
        let pipe = self.incoming();
        match (pipe.unread() > 0, pipe.state.borrow().readable()) {
            (true, _) => Pulse::Readable,
            (false, true) => Pulse::Closed,
            (false, false) => Pulse::Silent,
        }
    }

    /// Whether neither side has ended anything, as far as this one knows.
    pub fn established(&self) -> bool {
        let incoming = self.incoming().state.borrow();
        let outgoing = self.outgoing().state.borrow();
        !(incoming.fin_arrived || incoming.reset || outgoing.fin_sent || outgoing.broken)
    }

    /// Whether the other side has read all that was sent.
    pub fn all_is_read(&self) -> bool {
        self.outgoing().is_empty()
    }

    /// Whether the network broke or held up this connection.
    pub fn harmed(&self) -> bool {
        self.0.link.pipes.iter().any(|pipe| pipe.state.borrow().harmed)
    }
}

impl Drop for End {
    /// Closing with unread bytes resets the connection, as Linux does.
    fn drop(&mut self) {
        if !super::active() {
            return;
        }
        let world = super::world();
        let incoming = &self.link.pipes[1 - self.side];
        let outgoing = &self.link.pipes[self.side];
        incoming.state.borrow_mut().reader_closed = true;
        if incoming.unread() > 0 && !incoming.state.borrow().reset {
            self.link.reset(&world, self.side);
        } else if !outgoing.state.borrow().fin_sent {
            let at = outgoing.push_fin(&world);
            self.link.schedule(&world, self.side, at);
        }
    }
}

/// A read under way.
pub struct Reading(Stage);

enum Stage {
    New(Socket, Buf),
    Armed(Rc<Link>, usize, Rc<Operation>),
    Over,
}

impl Reading {
    fn arm(&mut self) {
        let stage = std::mem::replace(&mut self.0, Stage::Over);
        let Stage::New(socket, buf) = stage else { return };
        let (link, side) = (socket.0.link.clone(), 1 - socket.0.side);
        let state = RefCell::new(Progress::Waiting(buf, socket));
        let operation = Rc::new(Operation { state, waker: RefCell::default() });
        link.pipes[side].submit(&super::world(), operation.clone());
        self.0 = Stage::Armed(link, side, operation);
    }
}

impl Future for Reading {
    type Output = (io::Result<usize>, Buf);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if matches!(self.0, Stage::New(..)) {
            self.arm();
        }
        let Stage::Armed(_, _, operation) = &self.0 else {
            panic!("a read polled after its end");
        };
        let progress = operation.state.replace(Progress::Over);
        if let Progress::Seen(result, buf) = progress {
            self.0 = Stage::Over;
            return Poll::Ready((result, buf));
        }
        *operation.state.borrow_mut() = progress;
        *operation.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let Stage::Armed(link, side, operation) = std::mem::replace(&mut self.0, Stage::Over)
        else {
            return;
        };
        if !super::active() {
            return;
        }
        let world = super::world();
        match world.chance(world.faults().cancel_loses) {
            true => {
                let delay = Duration::from_nanos(world.below(CANCEL_NANOS_MAX));
                world.later(delay, move || link.pipes[side].cancel(&operation));
            }
            false => link.pipes[side].cancel(&operation),
        }
    }
}
