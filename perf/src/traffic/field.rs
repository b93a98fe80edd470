//! The loop that carries all connections of a measurement.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use rustix::event::{Timespec, epoll};

use super::load::{Client, Took};
use super::peer::Peer;
use super::upstream::{Asked, Upstream};
use super::{Answer, Counts, Pace, payload};
use crate::Failure;

/// Bytes of a read.
const READ_BYTES: usize = 256 * 1024;
/// Connections that wait to be accepted.
const QUEUE_MAX: i32 = 4096;
/// The listener's name among the connections.
const LISTENER: u64 = u64::MAX;
/// How long nothing may happen while answers are awaited.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The upstream's listener, its connections, and the clients.
pub struct Field {
    epoll: OwnedFd,
    listener: TcpListener,
    answer: Answer,
    health: Rc<[u8]>,
    slots: Vec<Option<Slot>>,
    /// Streams by client: the slot of the upstream's connection.
    streams: Vec<usize>,
    /// Events of the present burst that each client has.
    came: Vec<u64>,
    /// Streams by when their next burst is due.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    buf: Box<[u8]>,
    blank: Finder<'static>,
    /// Never sleep while waiting, so that no proxy pays for waking this thread.
    pub spin: bool,
    pub counts: Counts,
}

struct Slot {
    peer: Peer,
    role: Role,
}

enum Role {
    Upstream(Upstream),
    Client { client: Client, index: usize, request: Rc<[u8]> },
}

impl Field {
    /// An upstream that gives everyone `answer`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(listener: TcpListener, answer: Answer) -> Result<Self, Failure> {
        listener.set_nonblocking(true)?;
        // The standard library's queue of 128 overflows when a thousand clients come at once.
        rustix::net::listen(&listener, QUEUE_MAX)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            answer,
            health: payload::health(),
            slots: Vec::new(),
            streams: Vec::new(),
            came: Vec::new(),
            due: BinaryHeap::new(),
            buf: vec![0; READ_BYTES].into_boxed_slice(),
            blank: Finder::new(b"\n\n"),
            spin: false,
            counts: Counts::default(),
        })
    }

    /// Connects one client for each request to `proxy` and sends the requests.
    ///
    /// # Errors
    /// A connection is refused.
    pub fn connect(&mut self, proxy: SocketAddr, requests: Vec<Rc<[u8]>>) -> Result<(), Failure> {
        self.expect_clients(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            let stream = TcpStream::connect(proxy)?;
            let client = Client::default();
            let at = self.add(stream, Role::Client { client, index, request: request.clone() })?;
            self.send(at, &request)?;
            // The proxy connects in turn: its connections must not pile up in the queue.
            self.turn(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Makes room for the streams of so many clients, here or elsewhere.
    pub fn expect_clients(&mut self, count: usize) {
        self.streams = vec![usize::MAX; count];
        self.came = vec![0; count];
    }

    fn add(&mut self, stream: TcpStream, role: Role) -> io::Result<usize> {
        let at = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let peer = Peer::new(stream)?;
        let name = epoll::EventData::new_u64(at as u64);
        epoll::add(&self.epoll, &peer.stream, name, epoll::EventFlags::IN)?;
        let slot = Some(Slot { peer, role });
        match self.slots.get_mut(at) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        Ok(at)
    }

    /// Runs for `time`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(Some(left))?;
        }
    }

    /// Runs until so many more answers and events have come.
    ///
    /// # Errors
    /// They do not come.
    pub fn run_until(&mut self, more: u64) -> Result<(), Failure> {
        let passed = |counts: &Counts| counts.answers + counts.events;
        let wanted = passed(&self.counts) + more;
        let mut last = (passed(&self.counts), Instant::now());
        while passed(&self.counts) < wanted {
            self.turn(Some(Duration::from_secs(1)))?;
            if passed(&self.counts) > last.0 {
                last = (passed(&self.counts), Instant::now());
            } else if last.1.elapsed() > SILENCE_MAX {
                return Err(format!("answers stopped coming: {:?}", self.counts).into());
            }
        }
        Ok(())
    }

    /// Waits once, no longer than `patience`, and does what is to be done.
    fn turn(&mut self, patience: Option<Duration>) -> Result<(), Failure> {
        let now = Instant::now();
        let next = self.due.peek().map(|due| due.0.0.saturating_duration_since(now));
        let spin = self.spin.then_some(Duration::ZERO);
        let wait = next.into_iter().chain(patience).chain(spin).min().map(timespec);
        let mut ready = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 256];
        let count = match epoll::wait(&self.epoll, &mut ready, wait.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &ready[..count] {
            let (name, flags) = (event.data.u64(), event.flags);
            match name {
                LISTENER => self.accept()?,
                at => self.ready(at as usize, flags),
            }
        }
        self.bursts();
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Failure> {
        while let Ok((stream, _)) = self.listener.accept() {
            self.add(stream, Role::Upstream(Upstream::default()))?;
        }
        Ok(())
    }

    fn ready(&mut self, at: usize, flags: epoll::EventFlags) {
        if flags.contains(epoll::EventFlags::OUT) && self.flush(at).is_err() {
            return self.fail(at);
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR)
            && self.read(at).is_err()
        {
            self.fail(at);
        }
    }

    fn flush(&mut self, at: usize) -> io::Result<()> {
        let Some(slot) = &mut self.slots[at] else { return Ok(()) };
        slot.peer.flush()?;
        self.watch(at)
    }

    fn send(&mut self, at: usize, message: &Rc<[u8]>) -> io::Result<()> {
        let Some(slot) = &mut self.slots[at] else { return Ok(()) };
        slot.peer.send(message)?;
        if slot.peer.is_stuck() { self.watch(at) } else { Ok(()) }
    }

    /// Waits for room only while there is something to send.
    fn watch(&self, at: usize) -> io::Result<()> {
        let Some(slot) = &self.slots[at] else { return Ok(()) };
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, slot.peer.is_stuck());
        Ok(epoll::modify(
            &self.epoll,
            &slot.peer.stream,
            epoll::EventData::new_u64(at as u64),
            flags,
        )?)
    }

    fn read(&mut self, at: usize) -> io::Result<()> {
        let Some(slot) = &mut self.slots[at] else { return Ok(()) };
        let count = match slot.peer.read(&mut self.buf)? {
            None => return Ok(()),
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(count) => count,
        };
        let bytes = &self.buf[..count];
        match &mut slot.role {
            Role::Upstream(upstream) => match upstream.take(bytes) {
                Some(asked) => self.reply(at, asked),
                None => Ok(()),
            },
            Role::Client { client, index, request } => {
                let streams = matches!(self.answer, Answer::Stream { .. });
                let (took, index, request) =
                    (client.take(bytes, streams, &self.blank), *index, request.clone());
                self.counts.reads += 1;
                self.took(at, took, index, &request)
            }
        }
    }

    fn took(&mut self, at: usize, took: Took, index: usize, request: &Rc<[u8]>) -> io::Result<()> {
        match took {
            Took::Part => Ok(()),
            Took::Wrong => Err(io::ErrorKind::InvalidData.into()),
            Took::Answer => {
                self.counts.answers += 1;
                self.send(at, request)
            }
            Took::Events(count) => {
                self.counts.events += count;
                self.step(index, count)
            }
        }
    }

    /// In lockstep: the client has the burst whole, so the next one leaves.
    fn step(&mut self, index: usize, count: u64) -> io::Result<()> {
        let Answer::Stream { burst, pace: Pace::Lockstep, events, .. } = &self.answer else {
            return Ok(());
        };
        let (burst, events) = (burst.clone(), u64::from(*events));
        let came = &mut self.came[index];
        *came += count;
        if *came < events {
            return Ok(());
        }
        *came -= events;
        let stream = self.streams[index];
        self.send(stream, &burst)
    }

    fn reply(&mut self, at: usize, asked: Asked) -> io::Result<()> {
        let client = match asked {
            Asked::Health => return self.send(at, &self.health.clone()),
            Asked::Client(client) => client,
        };
        match self.answer.clone() {
            Answer::Whole(whole) => self.send(at, &whole),
            Answer::Stream { head, burst, pace, .. } => {
                // A client that cannot be told is known by its connection.
                let index = client.unwrap_or(at);
                if let Some(stream) = self.streams.get_mut(index) {
                    *stream = at;
                }
                self.send(at, &head)?;
                self.send(at, &burst)?;
                if let Pace::Every(period) = pace {
                    let count = self.streams.len();
                    let phase = period * (index % count) as u32 / count as u32;
                    self.due.push(Reverse((Instant::now() + period + phase, at)));
                }
                Ok(())
            }
        }
    }

    /// Sends what is due.
    fn bursts(&mut self) {
        let Answer::Stream { burst, pace: Pace::Every(period), .. } = &self.answer else { return };
        let (burst, period) = (burst.clone(), *period);
        while let Some(Reverse((due, at))) = self.due.peek().copied() {
            if due > Instant::now() {
                return;
            }
            self.due.pop();
            let Some(slot) = &self.slots[at] else { continue };
            if slot.peer.is_stuck() {
                self.counts.late += 1;
            } else if self.send(at, &burst).is_err() {
                self.fail(at);
                continue;
            }
            self.due.push(Reverse((due + period, at)));
        }
    }

    /// A client that fails is an error; the upstream's connections are the proxy's to close.
    fn fail(&mut self, at: usize) {
        if let Some(Slot { role: Role::Client { .. }, .. }) = self.slots[at].take() {
            self.counts.errors += 1;
        }
    }
}

fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
}
