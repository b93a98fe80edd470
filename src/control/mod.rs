//! The control plane: one thread, Tokio, everything that may wait.
//!
//! [`Control::run`] owns the signals, the configuration's watch, the endpoints' names and health,
//! the log writers and the admin listener. Shards hear of the outcome through [`link`] and never
//! wait for any of it: whatever fails here, they go on with what they last heard.

pub mod bank;
pub mod client;
pub mod conductor;
pub mod engine;
pub mod event;
pub mod fleet;
pub mod health;
pub mod kv;
pub mod names;
pub mod outbox;
pub mod phase;
pub mod probe;
pub mod pulse;
pub mod reload;
pub mod rows;
pub mod signals;
pub mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::Plan;
use crate::telemetry::Registry;

use crate::route::precise::Lane;
use crate::shard::link::{Bell, ShardLink};
use bank::Doorbell;
use conductor::Conductor;
use event::{EVENTS_MAX, Event};
pub use reload::Origin;
pub use signals::{Ground, Hangup};

/// What the control plane starts with.
pub struct Config {
    /// The file that the plan came from; `None` if it was made in memory.
    pub origin: Option<Origin>,
    /// Already bound to every shard.
    pub plan: Arc<Plan>,
    /// The registry that bound it.
    pub registry: Registry,
    /// By shard.
    pub links: Vec<ShardLink>,
    /// By shard: about engines that tell of their caches.
    pub precise: Vec<Arc<Lane>>,
    pub pace: Pace,
}

/// How often and how patiently things are done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two looks at the files; a change is acted on at the second.
    pub look_every: Duration,
    /// After a refused file, whose cause may lie in something that is not watched.
    pub retry_refused: Duration,
    pub probe_every: Duration,
    /// For one probe, all addresses together.
    pub probe_patience: Duration,
    /// For one page of an engine's metrics.
    pub scrape_patience: Duration,
    pub names: names::Pace,
    /// For the last rows to be written when the process ends.
    pub rows_patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look_every: Duration::from_millis(500),
            retry_refused: Duration::from_secs(10),
            probe_every: Duration::from_secs(2),
            probe_patience: Duration::from_secs(2),
            scrape_patience: Duration::from_secs(1),
            names: names::Pace { refresh: Duration::from_secs(30), retry: Duration::from_secs(2) },
            rows_patience: Duration::from_secs(5),
        }
    }
}

/// How the process should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was given back and every row written.
    Clean,
    /// A shard died or did not stop, a ledger was not at zero, or rows were left unwritten.
    Unclean,
}

impl Exit {
    /// The process's exit status.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Clean => 0,
            Exit::Unclean => 1,
        }
    }
}

/// Tells a running control plane what a signal would. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct Remote(mpsc::Sender<Event>);

/// Orders that may wait; more at once are the same again.
const ORDERS_MAX: usize = 16;

impl Remote {
    /// As SIGHUP.
    pub fn reload(&self) {
        // A full queue holds this very order already; behind a closed one nobody is left to obey.
        let _ = self.0.try_send(Event::Reload);
    }

    /// As SIGTERM.
    pub fn stop(&self) {
        let _ = self.0.try_send(Event::Stop);
    }
}

/// A control plane about to run.
pub struct Control {
    config: Config,
    doorbell: Doorbell,
    admin: Option<TcpListener>,
    orders: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
}

impl Control {
    /// Takes the admin port, so that a taken one stops the process before it serves.
    pub fn new(config: Config) -> io::Result<Self> {
        let admin = config.plan.admin.as_ref().map(|admin| TcpListener::bind(admin.listen));
        let admin = admin.transpose()?;
        Ok(Self { config, doorbell: Doorbell::new()?, admin, orders: mpsc::channel(ORDERS_MAX) })
    }

    /// What shards ring when they want other shares.
    pub fn bank_bell(&self) -> Bell {
        self.doorbell.bell()
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|socket| socket.local_addr().ok())
    }

    /// A way to say what signals say.
    pub fn remote(&self) -> Remote {
        Remote(self.orders.0.clone())
    }

    /// Runs on this thread until the process should end. Errors only before anything has begun.
    pub fn run(self, ground: Ground) -> io::Result<Exit> {
        let Ground { runtime, signals } = ground;
        let exit = runtime.block_on(async {
            // The sender stays alive: a closed channel would be an endless stream of nothing.
            let (_remote, orders) = self.orders;
            let (events, happened) = mpsc::channel(EVENTS_MAX);
            let conductor = Conductor::new(self.config, self.admin, self.doorbell, events)?;
            Ok(conductor.run(happened, orders, signals).await)
        });
        // A question to a name server may hang for long: nobody waits for its thread.
        runtime.shutdown_background();
        exit
    }
}
