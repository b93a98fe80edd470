//! Which request is due when, and what became of it; shared by the one who sends
//! requests to clients and by these.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_sim::engine::Time;

use crate::replay::fleet::{Course, Fate, Load};

struct State {
    due: BinaryHeap<Reverse<(Time, usize)>>,
    followers: Vec<Vec<usize>>,
    planned: Vec<Time>,
    open: usize,
    courses: Vec<Course>,
    gaps_us: Vec<u32>,
    ended: Time,
}

/// The schedule of a run that began when this was made.
pub struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
    began: Instant,
}

impl Schedule {
    /// All requests of `load` at `pace` times its own speed.
    pub fn new(load: &Load, pace: f64) -> Self {
        let asks = &load.trace.asks;
        let mut state = State {
            due: BinaryHeap::new(),
            followers: vec![Vec::new(); asks.len()],
            planned: asks.iter().map(|ask| ask.due(pace)).collect(),
            open: asks.len(),
            courses: vec![Course::new(); asks.len()],
            gaps_us: Vec::new(),
            ended: 0,
        };
        for (index, ask) in asks.iter().enumerate() {
            match ask.after {
                Some(before) => state.followers[before].push(index),
                None => state.due.push(Reverse((state.planned[index], index))),
            }
        }
        Self { state: Mutex::new(state), changed: Condvar::new(), began: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the run.
    pub fn now(&self) -> Time {
        self.began.elapsed().as_nanos() as Time
    }

    /// Waits for the next request that is due: when it should be sent, and which it is; `None` when all
    /// are over.
    pub fn next(&self) -> Option<(Time, usize)> {
        let mut state = self.lock();
        while state.open > 0 {
            let now = self.now();
            let first = state.due.peek().map(|Reverse((at, _))| *at);
            if first.is_some_and(|at| at <= now) {
                return state.due.pop().map(|Reverse(due)| due);
            }
            let wait = first.map_or(Duration::from_secs(1), |at| Duration::from_nanos(at - now));
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// A request is over; who waited for it becomes due.
    pub fn done(&self, index: usize, course: Course, gaps_us: &[u32]) {
        let now = self.now();
        let mut state = self.lock();
        state.courses[index] = course;
        state.gaps_us.extend_from_slice(gaps_us);
        state.open -= 1;
        state.ended = state.ended.max(now);
        for follower in std::mem::take(&mut state.followers[index]) {
            let at = state.planned[follower].max(now);
            state.due.push(Reverse((at, follower)));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Everything, once all are over.
    pub fn take(&self) -> (Vec<Course>, Vec<u32>, Time) {
        let mut state = self.lock();
        let courses = std::mem::take(&mut state.courses);
        debug_assert!(courses.iter().all(|course| course.fate != Fate::Open));
        (courses, std::mem::take(&mut state.gaps_us), state.ended)
    }
}
