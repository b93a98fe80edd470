//! A peer that runs: its tree of processes behind a keeper, until this is dropped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{API_KEY, MODEL, Peer, Plan, Wanted};
use crate::Failure;
use crate::target::free_address;
use crate::target::tree;

/// How long a peer may take until it answers; LiteLLM takes ten seconds on a free CPU.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// Lines of a peer's log that tell why it failed.
const LAST_LINES: usize = 4;
/// How long one probe may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// A peer that answers requests; `direct` is one without a process.
pub struct Running {
    pub address: SocketAddr,
    keeper: Option<Child>,
    reload: Option<Signal>,
    log: PathBuf,
}

impl Running {
    /// Starts a peer on `cpus` and waits until it answers a chat rightly, streamed where `streams`.
    ///
    /// # Errors
    /// It does not start, or not in time.
    pub fn start(
        peer: &Peer,
        program: &Path,
        upstreams: &[SocketAddr],
        dir: &Path,
        cpus: &[usize],
        streams: bool,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        let first = *upstreams.first().ok_or("no server")?;
        let direct = peer.name == super::DIRECT;
        let listen = if direct { first } else { free_address()? };
        let wanted = Wanted { program, listen, upstreams, dir, cpus: cpus.len() };
        let plan = (peer.plan)(&wanted)?;
        let log = dir.join("log");
        let keeper = if direct { None } else { Some(keep(&plan, cpus, &log)?) };
        let reload = plan.reload;
        let mut running = Self { address: listen, keeper, reload, log };
        running.wait_until_ready(streams)?;
        Ok(running)
    }

    /// The keeper's process id; the peer's tree is below it.
    pub fn keeper(&self) -> Option<u32> {
        self.keeper.as_ref().map(Child::id)
    }

    /// Makes it read its configuration again; whether it can.
    ///
    /// # Errors
    /// It is gone.
    pub fn reload(&self) -> Result<bool, Failure> {
        let (Some(signal), Some(keeper)) = (self.reload, self.keeper()) else { return Ok(false) };
        let root = tree::below(keeper).first().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(root.ok_or("the peer is gone")?, signal)?;
        Ok(true)
    }

    fn wait_until_ready(&mut self, streams: bool) -> Result<(), Failure> {
        let began = Instant::now();
        while began.elapsed() < START_PATIENCE {
            if answers(self.address, streams) {
                return Ok(());
            }
            if let Some(keeper) = &mut self.keeper
                && keeper.try_wait()?.is_some()
            {
                return Err(format!("it ended: {}", last_words(&self.log)).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = last_words(&self.log);
        Err(format!("it does not answer on {}: {said}", self.address).into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// The end of what a peer said.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    if last.is_empty() { "it said nothing".into() } else { last.join(" / ") }
}

fn keep(plan: &Plan, cpus: &[usize], log: &Path) -> Result<Child, Failure> {
    use std::os::unix::process::CommandExt;
    let said = File::create(log)?;
    let cpus = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let keeper = Command::new(std::env::current_exe()?)
        .args(["keep", "--cpu", &cpus, "--"])
        .args(&plan.command)
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        // An interrupt at the terminal is the harness's to act on.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(said.try_clone()?)
        .stderr(said)
        .spawn()?;
    Ok(keeper)
}

/// Whether a chat is answered with 200.
fn answers(address: SocketAddr, streams: bool) -> bool {
    let body = format!(
        "{{\"model\":\"{MODEL}\",\"stream\":{streams},\"max_tokens\":1,\
         \"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}"
    );
    let head = format!("authorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\n");
    post(address, "/v1/chat/completions", &head, &body).is_ok_and(|said| said.contains(" 200 "))
}

/// Sends one request and gives the answer's first line.
///
/// # Errors
/// Nobody answers in time.
pub fn post(address: SocketAddr, path: &str, head: &str, body: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_PATIENCE)?;
    stream.set_read_timeout(Some(PROBE_PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\n{head}connection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut said = [0; 64];
    let count = stream.read(&mut said)?;
    Ok(String::from_utf8_lossy(&said[..count]).lines().next().unwrap_or_default().to_owned())
}
