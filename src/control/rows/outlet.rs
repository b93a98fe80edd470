//! The file (or standard output) behind a log.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use super::Orders;
use crate::config::plan::Sink;
use crate::telemetry::say;

/// Opens a sink for appending.
pub type Opener = fn(&Sink) -> io::Result<Box<dyn Write + Send>>;

/// An opened sink, or one to be opened at the next write.
pub struct Outlet<O = Opener> {
    opener: O,
    sink: Option<Sink>,
    reopens: u64,
    file: Option<Box<dyn Write + Send>>,
    failing: bool,
}

impl<O: FnMut(&Sink) -> io::Result<Box<dyn Write + Send>>> Outlet<O> {
    /// An outlet without a sink.
    pub fn new(opener: O) -> Self {
        Self { opener, sink: None, reopens: 0, file: None, failing: false }
    }

    /// Goes over to the ordered sink; true if that means another file.
    pub fn follow(&mut self, orders: &Orders) -> bool {
        let same = self.sink == orders.sink && self.reopens == orders.reopens;
        if same {
            return false;
        }
        self.sink.clone_from(&orders.sink);
        self.reopens = orders.reopens;
        self.file = None;
        true
    }

    /// Whether there is anywhere to write to.
    pub fn has_sink(&self) -> bool {
        self.sink.is_some()
    }

    /// Writes some of `bytes` and says how many. An error is said once until a write succeeds.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.try_write(bytes);
        match &result {
            Ok(_) if self.failing => {
                self.failing = false;
                say::info("log is written again", &[("sink", &self.name())]);
            }
            Err(e) if !self.failing && !passing(e) => {
                self.failing = true;
                say::error("log cannot be written", &[("sink", &self.name()), ("why", e)]);
            }
            _ => {}
        }
        result
    }

    /// Lets go of the file, so that the next write opens it anew.
    pub fn close(&mut self) {
        self.file = None;
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() {
            let sink = self.sink.as_ref().ok_or(io::ErrorKind::NotFound)?;
            self.file = Some((self.opener)(sink)?);
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        match file.write(bytes)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            n => Ok(n),
        }
    }

    fn name(&self) -> String {
        match &self.sink {
            Some(Sink::File(path)) => path.display().to_string(),
            Some(Sink::Stdout) => "stdout".to_owned(),
            None => "none".to_owned(),
        }
    }
}

/// Whether trying the same write again soon is all there is to do.
pub fn passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// Opens a real sink, unbuffered.
pub fn open(sink: &Sink) -> io::Result<Box<dyn Write + Send>> {
    match sink {
        Sink::Stdout => Ok(Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
        Sink::File(path) => {
            let mut options = OpenOptions::new();
            // Rows name clients: not for everybody.
            let options = options.create(true).append(true).mode(0o640);
            let file = match options.clone().read(true).open(path) {
                Ok(mut file) => {
                    end_torn_line(&mut file)?;
                    file
                }
                // Write-only files and pipes.
                Err(_) => options.open(path)?,
            };
            Ok(Box::new(file))
        }
    }
}

/// A crash may have left half a row: it must not swallow the next one.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    if !file.metadata()?.is_file() || file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last != *b"\n" { file.write_all(b"\n") } else { Ok(()) }
}
