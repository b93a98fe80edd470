//! Tasks and events of a world. Which of the ready tasks goes next is drawn.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::World;

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Action = Box<dyn FnOnce()>;

/// Tasks, and what will happen when.
#[derive(Default)]
pub(super) struct Executor {
    tasks: RefCell<BTreeMap<u64, (Waker, Option<Task>)>>,
    ready: Arc<Ready>,
    next_task: Cell<u64>,
    polls: Cell<u64>,
    /// What happens when: time, then a drawn number, so that ties have no fixed order.
    timeline: RefCell<BinaryHeap<Reverse<(u64, u64, u64)>>>,
    actions: RefCell<BTreeMap<u64, Action>>,
    next_action: Cell<u64>,
}

/// Woken and not yet polled. Behind a mutex only because wakers must be sendable.
#[derive(Default)]
struct Ready(Mutex<Vec<u64>>);

struct Alarm {
    task: u64,
    ready: Arc<Ready>,
}

impl Ready {
    fn with<T>(&self, f: impl FnOnce(&mut Vec<u64>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ready.with(|ready| {
            if !ready.contains(&self.task) {
                ready.push(self.task);
            }
        });
    }
}

impl Executor {
    pub(super) fn polls(&self) -> u64 {
        self.polls.get()
    }

    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let id = self.next_task.replace(self.next_task.get() + 1);
        let waker = Waker::from(Arc::new(Alarm { task: id, ready: self.ready.clone() }));
        waker.wake_by_ref();
        self.tasks.borrow_mut().insert(id, (waker, Some(Box::pin(future))));
    }

    /// Polls one ready task; `false` when there is none.
    pub(super) fn poll_one(&self, world: &World) -> bool {
        let count = self.ready.with(|ready| ready.len()) as u64;
        if count == 0 {
            return false;
        }
        let choice = world.below(count) as usize;
        let id = self.ready.with(|ready| ready.swap_remove(choice));
        let Some((waker, mut task)) = self.take(id) else { return true };
        self.polls.set(self.polls.get() + 1);
        world.note(id);
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            if let Some((_, slot)) = self.tasks.borrow_mut().get_mut(&id) {
                *slot = Some(task);
            }
        } else {
            self.tasks.borrow_mut().remove(&id);
        }
        true
    }

    fn take(&self, id: u64) -> Option<(Waker, Task)> {
        let mut tasks = self.tasks.borrow_mut();
        let (waker, task) = tasks.get_mut(&id)?;
        Some((waker.clone(), task.take()?))
    }

    /// Does `action` at `time`; `tie` orders it among others of that time.
    pub(super) fn at(&self, time: u64, tie: u64, action: Action) {
        let id = self.next_action.replace(self.next_action.get() + 1);
        self.actions.borrow_mut().insert(id, action);
        self.timeline.borrow_mut().push(Reverse((time, tie, id)));
    }

    /// When something will happen next.
    pub(super) fn next_event(&self) -> Option<u64> {
        self.timeline.borrow().peek().map(|Reverse((time, _, _))| *time)
    }

    /// Does everything that is due.
    pub(super) fn fire_due(&self, now: u64) {
        while self.next_event().is_some_and(|time| time <= now) {
            let Some(Reverse((_, _, id))) = self.timeline.borrow_mut().pop() else { return };
            let action = self.actions.borrow_mut().remove(&id);
            if let Some(action) = action {
                action();
            }
        }
    }

    /// Drops every task and event, and what their drops bring forth.
    pub(super) fn drop_all(&self) {
        loop {
            let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
            let actions = std::mem::take(&mut *self.actions.borrow_mut());
            if tasks.is_empty() && actions.is_empty() {
                return;
            }
        }
    }
}

/// Starts a task in the world of this thread.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    super::world().executor.spawn(future);
}

/// A wait in virtual time.
pub struct Sleep {
    until: u64,
    armed: Option<Waker>,
}

/// Waits for `duration` of virtual time.
pub fn sleep(duration: Duration) -> Sleep {
    let world = super::world();
    Sleep { until: world.now.get() + duration.as_nanos() as u64, armed: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let world = super::world();
        if world.now.get() >= self.until {
            return Poll::Ready(());
        }
        if !self.armed.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            let waker = cx.waker().clone();
            self.armed = Some(waker.clone());
            world.executor.at(self.until, world.draw(), Box::new(move || waker.wake()));
        }
        Poll::Pending
    }
}
