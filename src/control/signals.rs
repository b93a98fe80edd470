//! The process's signals, from its first moment on.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::event::Event;

/// What a hangup asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// To read the configuration again and to open the logs anew.
    Reload,
    /// To stop: the terminal is gone.
    Stop,
}

/// What stands before anything else: the control plane's runtime, and with it the handlers of signals. What
/// comes before [`super::Control::run`] waits for it.
#[derive(Debug)]
pub struct Ground {
    pub(super) runtime: Runtime,
    pub(super) signals: Signals,
}

impl Ground {
    /// Catches signals from here on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lay(hangup: Hangup) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let signals = Signals::new(hangup)?;
        drop(inside);
        Ok(Self { runtime, signals })
    }
}

/// The signals that mean something to us.
#[derive(Debug)]
pub struct Signals {
    means: Hangup,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new(means: Hangup) -> io::Result<Self> {
        Ok(Self {
            means,
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.hangup.recv() => match self.means {
                Hangup::Reload => Event::Reload,
                Hangup::Stop => Event::Stop,
            },
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
        }
    }
}
