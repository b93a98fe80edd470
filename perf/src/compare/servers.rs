//! The servers behind a measurement: child processes, and what befalls them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::scenario::{Fault, FaultKind, ServerKind, Servers};
use crate::Failure;
use crate::peers::post;
use crate::target::child::Child;
use crate::target::{free_address, process};

/// By how much a server is slowed down.
const SLOWDOWN: &str = "10.0";

/// Servers that run until this is dropped.
pub struct Running {
    pub addresses: Vec<SocketAddr>,
    children: Vec<Child>,
    wanted: Servers,
    place: Place,
}

/// How and where servers are started.
#[derive(Clone, Debug)]
pub struct Place {
    /// The simulated server's program.
    pub sim: PathBuf,
    pub cpu: usize,
    /// For their logs.
    pub dir: PathBuf,
}

impl Running {
    /// Starts them and waits until they listen.
    ///
    /// # Errors
    /// One does not start.
    pub fn start(wanted: &Servers, place: &Place) -> Result<Self, Failure> {
        let mut running = Self {
            addresses: Vec::new(),
            children: Vec::new(),
            wanted: wanted.clone(),
            place: place.clone(),
        };
        for _ in 0..wanted.count {
            let address = free_address()?;
            let child = running.one(address)?;
            running.addresses.push(address);
            running.children.push(child);
        }
        Ok(running)
    }

    fn one(&self, address: SocketAddr) -> Result<Child, Failure> {
        let program = match self.wanted.kind {
            ServerKind::Fixed => fixed(&self.wanted, address)?,
            ServerKind::Sim => sim(&self.wanted, &self.place.sim, address),
        };
        let log = self.place.dir.join(format!("server-{}.log", address.port()));
        let mut child = Child::spawn(&program, self.place.cpu, &log)?;
        child.wait_until_listening(address)?;
        Ok(child)
    }

    /// Their processes.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::pid).collect()
    }

    /// Lets the second server suffer.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn strike(&mut self, fault: &Fault) -> Result<(), Failure> {
        match fault.kind {
            FaultKind::Kill => drop(self.children.pop()),
            FaultKind::Hang => self.tell("/sim/fault", r#"{"fault":"hang","all":true}"#)?,
            FaultKind::Slow => self.tell("/sim/slowdown", &format!("{{\"factor\":{SLOWDOWN}}}"))?,
            FaultKind::Reload => {}
        }
        Ok(())
    }

    /// Makes the second server well again.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn heal(&mut self, fault: &Fault) -> Result<(), Failure> {
        match fault.kind {
            FaultKind::Kill => {
                let child = self.one(*self.addresses.last().ok_or("no server")?)?;
                self.children.push(child);
            }
            FaultKind::Hang => self.tell("/sim/fault", r#"{"fault":""}"#)?,
            FaultKind::Slow => self.tell("/sim/slowdown", r#"{"factor":1.0}"#)?,
            FaultKind::Reload => {}
        }
        Ok(())
    }

    fn tell(&self, path: &str, body: &str) -> Result<(), Failure> {
        let last = *self.addresses.last().ok_or("no server")?;
        let said = post(last, path, "content-type: application/json\r\n", body)?;
        match said.contains(" 200 ") {
            true => Ok(()),
            false => Err(format!("a server answers {path} with {said:?}").into()),
        }
    }

    /// CPU nanoseconds that they have used.
    pub fn cpu_nanos(pids: &[u32]) -> u64 {
        pids.iter().map(|pid| process::cpu_times(*pid).total_nanos()).sum()
    }
}

fn fixed(wanted: &Servers, address: SocketAddr) -> Result<Vec<String>, Failure> {
    let own = std::env::current_exe()?.display().to_string();
    let mut words = vec![own, "mock".into(), "--listen".into(), address.to_string()];
    if let Some(rate) = wanted.events_per_second {
        words.extend(["--events-per-second".to_owned(), rate.to_string()]);
    }
    if let Some(streams) = wanted.streams {
        words.extend(["--streams".to_owned(), streams.to_string()]);
    }
    Ok(words)
}

fn sim(wanted: &Servers, program: &Path, address: SocketAddr) -> Vec<String> {
    let mut words = vec![program.display().to_string(), "--listen".into(), address.to_string()];
    // Connections are kept as long as an idle one may have to wait between measurements.
    words.extend(["--keep-alive-s", "75"].map(str::to_owned));
    words.extend(wanted.arguments.iter().cloned());
    words
}
