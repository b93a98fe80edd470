//! The generator's connections: each is being made, or free, or owes one answer.

use std::cmp::Reverse;
use std::io;
use std::net::{SocketAddr, TcpStream};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::answer::{Answer, Step};
use super::events::Came;
use super::generator::{Due, Generator, IDLE_NS_MAX, READ_BYTES, nanos};
use super::meter::{Fate, Fault};
use super::prompts::{Conversation, Request};
use super::spec::Reader;
use crate::traffic::peer::Peer;

/// Bytes of a slow reader's receive buffer: the kernel must not read for it.
const SLOW_BUFFER_BYTES: usize = 4096;
/// Share of the aborted streams that are given up before their first content.
const EARLY_ABORTS: f64 = 0.25;
/// Reads of a slow reader in a second, where its rate allows.
const SLOW_READS_PER_SECOND: u32 = 20;

/// All connections.
#[derive(Default)]
pub struct Pool {
    pub slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections without a request; the one used last is used next.
    idle: Vec<usize>,
    /// Requests under way.
    pub in_flight: usize,
    /// Number of the last connection.
    number: u32,
}

/// One connection.
pub struct Connection {
    peer: Peer<Request>,
    /// Tells it from the one that had its place before.
    number: u32,
    /// The request that leaves when the connection is made, and when making it began.
    making: Option<(Request, u64)>,
    /// Not read from until later.
    paused: bool,
    /// When something came, or the request left.
    heard: u64,
    answer: Answer,
    pub turn: Option<Turn>,
}

/// A request under way.
pub struct Turn {
    serial: u32,
    intended: u64,
    /// When it really left.
    left: u64,
    /// It belongs to the measurement.
    pub counted: bool,
    conversation: Option<Conversation>,
    events: u64,
    last_event: u64,
    /// The event after which it is given up.
    give_up_after: Option<u64>,
}

impl Pool {
    /// Connections that are made or being made.
    pub fn open(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether a connection is free.
    pub fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Whether this request is still under way there.
    pub fn serves(&self, at: usize, serial: u32) -> bool {
        let turn = self.slots[at].as_ref().and_then(|connection| connection.turn.as_ref());
        turn.is_some_and(|turn| turn.serial == serial)
    }

    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    fn close(&mut self, at: usize) {
        if self.slots[at].take().is_none() {
            return;
        }
        if let Some(idle) = self.idle.iter().position(|idle| *idle == at) {
            self.idle.swap_remove(idle);
        }
        self.free.push(at);
    }
}

impl Connection {
    /// Its name among the kernel's events.
    fn name(&self, at: usize) -> EventData {
        EventData::new_u64(u64::from(self.number) << 32 | at as u64)
    }
}

impl Generator<'_> {
    /// A request is to leave, by a free connection or a new one.
    pub(super) fn arrive(&mut self, intended: u64, counted: bool) {
        let place = match self.pool.idle.pop() {
            None if self.pool.open() >= self.spec.connections => {
                return self.meter.unsent(counted);
            }
            free => free,
        };
        self.serial = self.serial.wrapping_add(1);
        let (request, conversation) = self.maker.next();
        let left = self.now();
        let late = (!self.is_closed()).then(|| left - intended);
        self.meter.sent(counted, late);
        self.pool.in_flight += 1;
        let turn = Turn {
            serial: self.serial,
            intended,
            left,
            counted,
            conversation,
            events: 0,
            last_event: left,
            give_up_after: None,
        };
        match place {
            Some(at) => {
                self.assign(at, turn);
                self.write(at, |peer| peer.send(&request));
            }
            None => self.open(request, turn),
        }
    }

    fn open(&mut self, request: Request, turn: Turn) {
        let slow = self.spec.readers != Reader::Fast;
        let made = connect(self.address, slow)
            .and_then(|(stream, at_once)| Ok((Peer::new(stream)?, at_once)));
        let (peer, at_once) = match made {
            Ok(made) => made,
            Err(error) => return self.settle(turn, Fate::Failed(Fault::Connect(error.kind()))),
        };
        let began = turn.left;
        let at = self.pool.place();
        self.pool.number = self.pool.number.wrapping_add(1);
        let connection = Connection {
            peer,
            number: self.pool.number,
            making: (!at_once).then(|| (request.clone(), began)),
            paused: false,
            heard: began,
            answer: Answer::default(),
            turn: None,
        };
        let flags = if at_once { EventFlags::IN } else { EventFlags::OUT };
        let added = epoll::add(&self.epoll, &connection.peer.stream, connection.name(at), flags);
        self.pool.slots[at] = Some(connection);
        self.assign(at, turn);
        match added {
            Err(error) => {
                let kind = io::Error::from(error).kind();
                self.end_turn(at, Fate::Failed(Fault::Connect(kind)));
            }
            Ok(()) if at_once => {
                self.meter.connected(self.now() - began);
                self.write(at, |peer| peer.send(&request));
            }
            Ok(()) => {}
        }
    }

    /// Hands a request to a connection, and chooses whether and when it will be given up.
    fn assign(&mut self, at: usize, mut turn: Turn) {
        if self.spec.abort_share > 0.0 && self.random.f64() < self.spec.abort_share {
            let early = self.random.f64() < EARLY_ABORTS;
            match self.spec.request.events() {
                Some(events) if !early => {
                    turn.give_up_after = Some(self.random.u64(1..=events.max(1)));
                }
                _ => self.give_up(at, turn.serial, turn.left, self.mean_wait_ns),
            }
        }
        if let Some(connection) = &mut self.pool.slots[at] {
            connection.heard = turn.left;
            connection.turn = Some(turn);
        }
    }

    /// Gives a request up at a random moment of the next so many nanoseconds.
    fn give_up(&mut self, at: usize, serial: u32, now: u64, within_ns: u64) {
        let moment = now + (self.random.f64() * within_ns as f64) as u64;
        self.due.push(Reverse((moment, at, serial, Due::Abort)));
    }

    fn write(&mut self, at: usize, write: impl FnOnce(&mut Peer<Request>) -> io::Result<usize>) {
        let Some(connection) = &mut self.pool.slots[at] else { return };
        let was_stuck = connection.peer.is_stuck();
        match write(&mut connection.peer) {
            Ok(bytes) => {
                self.meter.wrote(bytes);
                if connection.peer.is_stuck() != was_stuck {
                    self.watch(at);
                }
            }
            Err(error) => self.end_turn(at, Fate::Failed(Fault::Lost(error.kind()))),
        }
    }

    /// Tells the kernel what this connection waits for.
    fn watch(&mut self, at: usize) {
        let Some(connection) = &self.pool.slots[at] else { return };
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !connection.paused);
        flags.set(EventFlags::OUT, connection.peer.is_stuck());
        let name = connection.name(at);
        if let Err(error) = epoll::modify(&self.epoll, &connection.peer.stream, name, flags) {
            let kind = io::Error::from(error).kind();
            self.end_turn(at, Fate::Failed(Fault::Lost(kind)));
        }
    }

    /// Something happened to a connection that may be gone already.
    pub(super) fn ready(&mut self, name: u64, flags: EventFlags) {
        let at = (name & u64::from(u32::MAX)) as usize;
        let Some(connection) = self.pool.slots.get(at).and_then(Option::as_ref) else { return };
        if u64::from(connection.number) != name >> 32 {
            return;
        }
        if connection.making.is_some() {
            return self.made(at);
        }
        if flags.contains(EventFlags::OUT) {
            self.write(at, Peer::flush);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(at);
        }
    }

    /// A connection was made, or could not be.
    fn made(&mut self, at: usize) {
        let now = self.now();
        let Some(connection) = &mut self.pool.slots[at] else { return };
        let failed = connection.peer.stream.take_error().unwrap_or_else(Some);
        if let Some(error) = failed {
            return self.end_turn(at, Fate::Failed(Fault::Connect(error.kind())));
        }
        let Some((request, began)) = connection.making.take() else { return };
        connection.heard = now;
        self.meter.connected(now - began);
        self.watch(at);
        self.write(at, |peer| peer.send(&request));
    }

    fn read(&mut self, at: usize) {
        let limit = match self.spec.readers {
            Reader::Fast => READ_BYTES,
            Reader::Slow { bytes_per_second } => (bytes_per_second / SLOW_READS_PER_SECOND)
                .clamp(64, SLOW_BUFFER_BYTES as u32)
                as usize,
        };
        let Some(connection) = &mut self.pool.slots[at] else { return };
        match connection.peer.read(&mut self.buf[..limit]) {
            Ok(None) => {}
            Ok(Some(0)) => self.ended(at),
            Ok(Some(count)) => self.take(at, count),
            Err(error) => self.end_turn(at, Fate::Failed(Fault::Lost(error.kind()))),
        }
    }

    /// Takes what was read.
    fn take(&mut self, at: usize, count: usize) {
        let now = self.now();
        let Some(connection) = &mut self.pool.slots[at] else { return };
        if connection.turn.is_none() {
            // Nobody asked.
            return self.pool.close(at);
        }
        connection.heard = now;
        let mut came = Came::default();
        let step = connection.answer.take(&self.buf[..count], &mut came);
        self.meter.read(count, came);
        if came.events > 0 {
            self.events(at, came, now);
        }
        match step {
            Step::Done => self.answered(at),
            Step::Wrong => self.end_turn(at, Fate::Failed(Fault::Malformed)),
            Step::More => self.pause(at, count, now),
        }
    }

    /// Events came with one read.
    fn events(&mut self, at: usize, came: Came, now: u64) {
        let turn = self.pool.slots[at].as_mut().and_then(|connection| connection.turn.as_mut());
        let Some(turn) = turn else { return };
        let since = now - turn.last_event;
        if turn.counted && came.first {
            self.meter.first(now - turn.intended);
        }
        if came.gaps > 0 {
            self.meter.gaps(came.gaps, if came.first { 0 } else { since });
        }
        turn.events += came.events;
        turn.last_event = now;
        let (left, serial, events) = (turn.left, turn.serial, turn.events);
        if turn.give_up_after.take_if(|after| events >= *after).is_some() {
            self.give_up(at, serial, now, since);
        }
        if came.first {
            self.learn(now - left);
        }
    }

    /// How long it took until an answer began to come.
    fn learn(&mut self, took_ns: u64) {
        self.mean_wait_ns = self.mean_wait_ns - self.mean_wait_ns / 16 + took_ns / 16;
    }

    /// A slow reader rests after each read.
    fn pause(&mut self, at: usize, count: usize, now: u64) {
        let Reader::Slow { bytes_per_second } = self.spec.readers else { return };
        let Some(connection) = &mut self.pool.slots[at] else { return };
        let Some(turn) = &connection.turn else { return };
        let rest = count as u64 * 1_000_000_000 / u64::from(bytes_per_second);
        self.due.push(Reverse((now + rest, at, turn.serial, Due::Read)));
        connection.paused = true;
        self.watch(at);
    }

    /// A slow reader reads again.
    pub(super) fn resume(&mut self, at: usize) {
        let Some(connection) = &mut self.pool.slots[at] else { return };
        connection.paused = false;
        self.watch(at);
    }

    /// The target ended the connection.
    fn ended(&mut self, at: usize) {
        let Some(connection) = &mut self.pool.slots[at] else { return };
        match connection.answer.end() {
            _ if connection.turn.is_none() => self.pool.close(at),
            Step::Done => self.answered(at),
            _ if connection.answer.is_unbegun() => {
                self.end_turn(at, Fate::Failed(Fault::Unanswered));
            }
            _ => self.end_turn(at, Fate::Failed(Fault::Cut)),
        }
    }

    /// The answer came whole: is it what was asked for?
    fn answered(&mut self, at: usize) {
        let streams = self.spec.request.streams();
        let Some(connection) = &mut self.pool.slots[at] else { return };
        let answer = &mut connection.answer;
        let fate = match answer.status {
            200..=299 if !streams => Fate::Ok,
            200..=299 if !answer.streams => Fate::Failed(Fault::NoStream),
            200..=299 if answer.events.failed => Fate::Failed(Fault::ErrorEvent),
            200..=299 if !answer.events.done => Fate::Failed(Fault::Unterminated),
            200..=299 => Fate::Ok,
            status => Fate::Failed(Fault::Http(status)),
        };
        if !answer.keeps || connection.peer.is_stuck() {
            return self.end_turn(at, fate);
        }
        answer.reset();
        if let Some(turn) = connection.turn.take() {
            self.pool.idle.push(at);
            self.settle(turn, fate);
        }
    }

    /// The request under way there has its fate, and the connection closes.
    pub(super) fn end_turn(&mut self, at: usize, fate: Fate) {
        let turn = self.pool.slots[at].as_mut().and_then(|connection| connection.turn.take());
        self.pool.close(at);
        if let Some(turn) = turn {
            self.settle(turn, fate);
        }
    }

    /// A request is over.
    fn settle(&mut self, turn: Turn, fate: Fate) {
        let now = self.now();
        self.pool.in_flight -= 1;
        self.maker.give_back(turn.conversation);
        match fate {
            Fate::Ok if !self.spec.request.streams() => self.learn(now - turn.left),
            _ => {}
        }
        self.meter.fate(turn.counted, fate, now - turn.intended);
    }

    /// Gives up on connections that are silent, and lets go of those that have been idle.
    pub(super) fn sweep(&mut self, now: u64) {
        let patience = nanos(self.spec.patience);
        for at in 0..self.pool.slots.len() {
            let Some(connection) = &self.pool.slots[at] else { continue };
            let quiet = now.saturating_sub(connection.heard);
            if connection.turn.is_none() && quiet > IDLE_NS_MAX {
                self.pool.close(at);
            } else if connection.turn.is_some() && quiet > patience {
                self.end_turn(at, Fate::Failed(Fault::Silent));
            }
        }
    }
}

/// Begins to connect; whether that was all.
fn connect(address: SocketAddr, slow: bool) -> io::Result<(TcpStream, bool)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if slow {
        sockopt::set_socket_recv_buffer_size(&socket, SLOW_BUFFER_BYTES)?;
    }
    let at_once = match rustix::net::connect(&socket, &address) {
        Ok(()) => true,
        Err(Errno::INPROGRESS) => false,
        Err(error) => return Err(error.into()),
    };
    Ok((TcpStream::from(socket), at_once))
}
