//! Commands that a shard has not got yet.
//!
//! Only the latest of each kind is kept: an older plan or view is of no use to anybody.

use std::sync::Arc;

use crate::route::views::{Bound, Views};
use crate::shard::link::{Command, ShardLink};

/// One shard's link and what is still to go through it.
pub struct Outbox {
    link: ShardLink,
    plan: Option<Arc<Bound>>,
    views: Option<Arc<Views>>,
    drain: bool,
    stop: bool,
    /// Everything of the kind that was ever given, for a shard that starts anew.
    last: Last,
    restarts: u64,
}

#[derive(Default)]
struct Last {
    plan: Option<Arc<Bound>>,
    views: Option<Arc<Views>>,
    drain: bool,
    stop: bool,
}

impl Outbox {
    /// Nothing to send yet.
    pub fn new(link: ShardLink) -> Self {
        let last = Last::default();
        Self { link, plan: None, views: None, drain: false, stop: false, last, restarts: 0 }
    }

    /// A new plan; views that wait belong to the old one.
    pub fn plan(&mut self, bound: Arc<Bound>) {
        (self.views, self.last.views) = (None, None);
        self.last.plan = Some(Arc::clone(&bound));
        self.plan = Some(bound);
        self.flush();
    }

    /// Newer views of the present plan.
    pub fn views(&mut self, views: Arc<Views>) {
        self.last.views = Some(Arc::clone(&views));
        self.views = Some(views);
        self.flush();
    }

    /// Wakes the shard.
    pub fn ring(&self) {
        (self.link.ring)();
    }

    /// The order to drain.
    pub fn drain(&mut self) {
        (self.drain, self.last.drain) = (true, true);
        self.flush();
    }

    /// The order to stop.
    pub fn stop(&mut self) {
        (self.stop, self.last.stop) = (true, true);
        self.flush();
    }

    /// Says everything again to a shard that was restarted: the old one may have taken commands
    /// with it.
    pub fn restarted(&mut self, restarts: u64) {
        if std::mem::replace(&mut self.restarts, restarts) == restarts {
            return;
        }
        (self.plan, self.views) = (self.last.plan.clone(), self.last.views.clone());
        (self.drain, self.stop) = (self.last.drain, self.last.stop);
    }

    /// Sends what fits into the shard's queue, in an order that makes sense to it.
    pub fn flush(&mut self) {
        let plan = self.plan.take().map(Command::Plan);
        let views = self.views.take().map(Command::Views);
        let drain = std::mem::take(&mut self.drain).then_some(Command::Drain);
        let stop = std::mem::take(&mut self.stop).then_some(Command::Stop);
        let mut stuck = false;
        for command in [plan, views, drain, stop].into_iter().flatten() {
            let refused = if stuck { Err(command) } else { self.link.send(command) };
            if let Err(command) = refused {
                stuck = true;
                self.keep(command);
            }
        }
    }

    fn keep(&mut self, command: Command) {
        match command {
            Command::Plan(bound) => self.plan = Some(bound),
            Command::Views(views) => self.views = Some(views),
            Command::Drain => self.drain = true,
            Command::Stop => self.stop = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::link::COMMANDS_MAX;

    fn views(generation: u64) -> Arc<Views> {
        Arc::new(Views { generation, endpoints: Vec::new() })
    }

    fn generations(link: &ShardLink) -> Vec<u64> {
        let generation = |command| match command {
            Command::Views(views) => views.generation,
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| link.queue.pop()).map(generation).collect()
    }

    #[test]
    fn a_restarted_shard_hears_everything_again() {
        let link = ShardLink::new(Arc::new(|| {}));
        let mut outbox = Outbox::new(link.clone());
        (1..4).for_each(|generation| outbox.views(views(generation)));
        assert_eq!(generations(&link), [1, 2, 3]);
        outbox.restarted(0);
        outbox.flush();
        assert!(generations(&link).is_empty());
        outbox.restarted(1);
        outbox.flush();
        assert_eq!(generations(&link), [3]);
        outbox.drain();
        outbox.restarted(2);
        outbox.flush();
        assert_eq!(link.queue.len(), 3, "drain, then views and drain");
    }

    #[test]
    fn a_full_queue_loses_only_what_is_stale() {
        let link = ShardLink::new(Arc::new(|| {}));
        let mut outbox = Outbox::new(link.clone());
        let last = COMMANDS_MAX as u64 + 10;
        (0..last).for_each(|generation| outbox.views(views(generation)));
        outbox.drain();
        assert_eq!(generations(&link).last(), Some(&(COMMANDS_MAX as u64 - 1)));
        outbox.flush();
        let Some(Command::Views(late)) = link.queue.pop() else { panic!() };
        assert_eq!(late.generation, last - 1);
        assert!(matches!(link.queue.pop(), Some(Command::Drain)));
        assert!(link.queue.pop().is_none());
        outbox.flush();
        assert!(link.queue.pop().is_none());
    }
}
