//! A child process that does not outlive the harness.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// How long a proxy may take until it listens; under callgrind it takes seconds.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Killed when dropped, and by the kernel when the harness dies first.
pub struct Child {
    inner: std::process::Child,
    log: String,
}

impl Child {
    /// Starts `program` (its first word is the path) on `cpu`, what it says going to the file `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(program: &[String], cpu: usize, log: &Path) -> Result<Self, Failure> {
        Self::spawn_on(program, &[cpu], log)
    }

    /// The same, on several CPUs; on none: wherever the kernel likes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn_on(program: &[String], cpus: &[usize], log: &Path) -> Result<Self, Failure> {
        let pinned = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let how = (!cpus.is_empty()).then_some(["--cpu", &pinned]);
        let said = File::create(log)?;
        let inner = Command::new(std::env::current_exe()?)
            .arg("launch")
            .args(how.iter().flatten())
            .args(["--parent", &std::process::id().to_string(), "--"])
            .args(program)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()?;
        Ok(Self { inner, log: log.display().to_string() })
    }

    /// Its process id: the launcher's and the program's are the same.
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// Waits until `address` accepts.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub fn wait_until_listening(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let began = Instant::now();
        while began.elapsed() < START_PATIENCE {
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.inner.try_wait()? {
                return Err(format!("a proxy ended ({status}); it said why in {}", self.log).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("a proxy does not listen on {address}; see {}", self.log).into())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.inner.kill();
        let _ = self.inner.wait();
    }
}
