//! The loop of the generator: one thread, one epoll. What is due is sent before anything else is looked at,
//! between any two events too, so that a crowd of answers does not make requests late.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::event::{Timespec, epoll};

use super::connection::{Connection, Pool};
use super::meter::{Fate, Meter};
use super::outcome::Outcome;
use super::prompts::Maker;
use super::schedule::Schedule;
use super::spec::{Arrivals, Spec};
use crate::Failure;
use crate::target::process;

/// Bytes of a read.
pub const READ_BYTES: usize = 256 * 1024;
/// The loop looks at the clock, the timeline and the caller's wishes at least this often.
const TICK_NS: u64 = 100_000_000;
/// Connections that a closed loop opens in a moment, and how long that is: more might overflow the target's
/// queue, and a connection that does not fit is tried again after a second.
const OPENED_MAX: u32 = 32;
const OPENED_NS: u64 = 4_000_000;
/// How long a closed loop awaits the last answers.
const CLOSED_DRAIN_NS: u64 = 1_000_000_000;
/// A connection unused for so long is closed: the target may be about to (uvicorn does so after five
/// seconds).
pub const IDLE_NS_MAX: u64 = 3_000_000_000;
/// With its 99th percentile beyond this, the lateness of requests is no longer small beside latencies.
const SEND_ERROR_NS_MAX: u64 = 1_000_000;
/// How long answers are thought to take until one has come.
const MEAN_WAIT_NS: u64 = 100_000_000;
/// How often silent and idle connections are looked for.
const SWEEP_NS: u64 = 500_000_000;
/// Requests that leave in a row before answers are looked at.
const SENDS_MAX: usize = 64;
const NANOS: u64 = 1_000_000_000;
/// Beyond this share of its time the generator has none left.
const BUSY_MAX: f64 = 0.95;

/// What a run is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Measuring,
    /// The measurement is over; the last answers are awaited.
    Draining,
}

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub phase: Phase,
    /// Since the start of the run.
    pub elapsed: Duration,
    /// Of the measurement, so far.
    pub sent: u64,
    pub ok: u64,
    pub failed: u64,
    pub unsent: u64,
    pub in_flight: usize,
    pub connections: usize,
}

/// What is to be done at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// Give the request up.
    Abort,
    /// Read again.
    Read,
}

/// One run.
pub struct Generator<'a> {
    pub(super) spec: &'a Spec,
    pub(super) address: SocketAddr,
    pub(super) epoll: OwnedFd,
    began: Instant,
    /// The measurement: from, until.
    window: (u64, u64),
    schedule: Schedule,
    /// The next arrival of an open loop.
    next: Option<u64>,
    /// Requests that a closed loop has under way at once; zero in an open loop, and once no more are sent.
    concurrency: usize,
    pub(super) pool: Pool,
    /// Connections that a closed loop may open until when.
    may_open: (u32, u64),
    /// Number of the last request.
    pub(super) serial: u32,
    pub(super) maker: Maker,
    pub(super) random: Rng,
    /// How long answers (streams: their first content) take, for choosing moments to give up.
    pub(super) mean_wait_ns: u64,
    pub(super) due: BinaryHeap<Reverse<(u64, usize, u32, Due)>>,
    pub(super) meter: Meter,
    pub(super) buf: Box<[u8]>,
    phase: Phase,
    /// Own CPU time, and time spent waiting for a CPU: before the measurement, then during it.
    cpu_ns: (u64, u64),
    /// Time of turns that had something to do, of the measurement.
    worked_ns: u64,
    /// When the caller was told last, and of what phase.
    told: Option<(u64, Phase)>,
    swept: u64,
}

impl<'a> Generator<'a> {
    /// # Errors
    /// The target is unknown, the spec impossible, or the kernel refuses.
    pub fn new(spec: &'a Spec) -> Result<Self, Failure> {
        spec.check()?;
        let warm = nanos(spec.warmup);
        let mut schedule = Schedule::new(&spec.arrivals, spec.seed);
        Ok(Self {
            spec,
            address: spec.target.resolve()?,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            window: (warm, warm + nanos(spec.duration)),
            next: schedule.next(),
            schedule,
            concurrency: match spec.arrivals {
                Arrivals::Closed { concurrency } => concurrency,
                _ => 0,
            },
            pool: Pool::default(),
            may_open: (0, 0),
            serial: 0,
            maker: Maker::new(spec),
            random: Rng::with_seed(spec.seed ^ 0xAB0B_7ED5),
            mean_wait_ns: MEAN_WAIT_NS,
            due: BinaryHeap::new(),
            meter: Meter::new()?,
            buf: vec![0; READ_BYTES].into_boxed_slice(),
            phase: Phase::WarmUp,
            cpu_ns: (0, 0),
            worked_ns: 0,
            told: None,
            swept: 0,
            began: Instant::now(),
        })
    }

    /// Runs until all is over, or `progress` breaks off.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(
        mut self,
        mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Outcome, Failure> {
        let patience = nanos(self.spec.patience);
        let drain = if self.is_closed() { patience.min(CLOSED_DRAIN_NS) } else { patience };
        let (warm, end) = self.window;
        loop {
            let now = self.now();
            match self.phase {
                Phase::WarmUp if now >= warm => self.measure(now),
                Phase::Measuring if now >= end => self.stop(now),
                Phase::Draining if self.pool.in_flight == 0 || now >= end + drain => {
                    return self.finish();
                }
                _ => {}
            }
            if self.tell(now, &mut progress).is_break() {
                self.meter.outcome.interrupted = self.phase != Phase::Draining;
                self.stop(now);
                return self.finish();
            }
            self.turn()?;
        }
    }

    /// Nanoseconds since the start.
    pub(super) fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.spec.arrivals, Arrivals::Closed { .. })
    }

    fn measure(&mut self, now: u64) {
        self.phase = Phase::Measuring;
        self.cpu_ns = process::own_times_nanos();
        self.meter.begin(now);
    }

    /// Ends the measurement: nothing new is sent.
    fn stop(&mut self, now: u64) {
        if self.phase == Phase::Measuring {
            let (ran, waited) = process::own_times_nanos();
            self.cpu_ns = (ran - self.cpu_ns.0, waited - self.cpu_ns.1);
            self.meter.end(now);
        }
        self.phase = Phase::Draining;
        self.concurrency = 0;
        // What was due and has not left will not.
        while self.next.is_some_and(|at| at < now.min(self.window.1)) {
            self.meter.unsent(self.counts(self.next));
            self.next = self.schedule.next();
        }
        self.next = None;
    }

    fn counts(&self, intended: Option<u64>) -> bool {
        intended.is_some_and(|at| at >= self.window.0 && at < self.window.1)
    }

    fn finish(mut self) -> Result<Outcome, Failure> {
        let counted = |slot: &Option<Connection>| slot.as_ref()?.turn.as_ref().map(|t| t.counted);
        for counted in self.pool.slots.iter().filter_map(counted) {
            self.meter.fate(counted, Fate::Unfinished, 0);
        }
        let own = if self.spec.spin { self.worked_ns } else { self.cpu_ns.0 };
        let wanted = own + self.cpu_ns.1;
        let outcome = &mut self.meter.outcome;
        let busy = wanted as f64 / 1e9 > BUSY_MAX * outcome.seconds;
        outcome.cpu_us = own / 1_000;
        let late = self.meter.usual_send_error() > SEND_ERROR_NS_MAX;
        self.meter.outcome.saturated = self.meter.measured() && (busy || late);
        let now = self.now();
        self.meter.finish(now)
    }

    /// Now and then: tells the caller how it goes, and hears whether to go on.
    fn tell(
        &mut self,
        now: u64,
        progress: &mut impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.told.is_some_and(|(at, phase)| now < at + TICK_NS && phase == self.phase) {
            return ControlFlow::Continue(());
        }
        self.told = Some((now, self.phase));
        self.meter.roll(now);
        if now > self.swept + SWEEP_NS {
            self.swept = now;
            self.sweep(now);
        }
        progress(&Progress {
            phase: self.phase,
            elapsed: Duration::from_nanos(now),
            sent: self.meter.outcome.sent,
            ok: self.meter.outcome.ok,
            failed: self.meter.failed(),
            unsent: self.meter.outcome.unsent,
            in_flight: self.pool.in_flight,
            connections: self.pool.open(),
        })
    }

    /// Waits once, and does what is to be done.
    fn turn(&mut self) -> Result<(), Failure> {
        let wait = self.wait_ns(self.now());
        let wait = Timespec { tv_sec: (wait / NANOS) as i64, tv_nsec: (wait % NANOS) as i64 };
        let mut ready = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 256];
        let count = match epoll::wait(&self.epoll, &mut ready, Some(&wait)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let began = self.now();
        let mut worked = self.send_due() || count > 0;
        for event in &ready[..count] {
            self.ready(event.data.u64(), event.flags);
            worked |= self.send_due();
        }
        worked |= self.dues();
        if worked && self.meter.measures() {
            self.worked_ns += self.now() - began;
        }
        Ok(())
    }

    /// How long there is nothing to do but to wait.
    fn wait_ns(&self, now: u64) -> u64 {
        if self.spec.spin {
            return 0;
        }
        let told = self.told.map_or(0, |(at, _)| at + TICK_NS);
        let (warm, end) = self.window;
        let phase = match self.phase {
            Phase::WarmUp => warm,
            Phase::Measuring => end,
            Phase::Draining => told,
        };
        let due = self.due.peek().map(|due| due.0.0);
        let wants = self.pool.in_flight < self.concurrency;
        let may_open = if self.may_open.0 == 0 { self.may_open.1 } else { 0 };
        let open = wants.then_some(may_open);
        let first = [Some(told), Some(phase), self.next, due, open].into_iter().flatten().min();
        first.map_or(0, |at| at.saturating_sub(now))
    }

    /// A closed loop has room for a further request, and may open the connection that it would need.
    fn wants_more(&mut self, now: u64) -> bool {
        if self.pool.in_flight >= self.concurrency {
            return false;
        }
        if self.pool.has_idle() {
            return true;
        }
        if now >= self.may_open.1 {
            self.may_open = (OPENED_MAX, now + OPENED_NS);
        }
        let may = self.may_open.0 > 0;
        self.may_open.0 -= u32::from(may);
        may
    }

    /// Sends what is to leave now; whether there was anything.
    fn send_due(&mut self) -> bool {
        let (mut sent, end) = (false, self.window.1);
        for _ in 0..SENDS_MAX {
            let now = self.now();
            let intended = if let Some(at) = self.next.take_if(|at| *at <= now && *at < end) {
                self.next = self.schedule.next();
                at
            } else if self.wants_more(now) {
                now
            } else {
                break;
            };
            let counted = self.counts(Some(intended));
            self.arrive(intended, counted);
            sent = true;
        }
        sent
    }

    /// Does what has been put off until now; whether there was anything.
    fn dues(&mut self) -> bool {
        let mut done = false;
        while let Some(Reverse((at, slot, serial, due))) = self.due.peek().copied() {
            if at > self.now() {
                break;
            }
            self.due.pop();
            if self.pool.serves(slot, serial) {
                match due {
                    Due::Abort => self.end_turn(slot, Fate::Aborted),
                    Due::Read => self.resume(slot),
                }
            }
            done = true;
        }
        done
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    time.as_nanos().min(u64::MAX.into()) as u64
}
