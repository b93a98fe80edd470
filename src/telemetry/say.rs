//! Sluice's own log: `key=value` lines on standard error.
//!
//! Any thread may speak, shards too: a line goes into a bounded lock-free queue and a thread of its
//! own writes it, so a reader of standard error that stops reading stops nobody. Lines that find
//! the queue full are counted, and the count is said when there is room again. Callers pass no
//! secrets.

use std::fmt::{self, Display, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;

use super::clock::{self, Rfc3339};

const LINES_MAX: usize = 1_024;
const LINE_BYTES_MAX: usize = 16 * 1_024;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// A name and its value in a line.
pub type Pair<'a> = (&'static str, &'a dyn Display);

/// Says that something happened.
pub fn info(message: &str, pairs: &[Pair<'_>]) {
    say(Level::Info, message, pairs);
}

/// Says that something needs a look.
pub fn warn(message: &str, pairs: &[Pair<'_>]) {
    say(Level::Warn, message, pairs);
}

/// Says that something is broken.
pub fn error(message: &str, pairs: &[Pair<'_>]) {
    say(Level::Error, message, pairs);
}

/// Queues one line. Never blocks.
pub fn say(level: Level, message: &str, pairs: &[Pair<'_>]) {
    let voice = VOICE.get_or_init(Voice::start);
    let text = line(clock::unix_micros(), level, message, pairs);
    if voice.shared.lines.push(text).is_err() {
        voice.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(writer) = &voice.writer {
        writer.unpark();
    }
}

/// Waits until everything said is written, at most `patience`: for the end of the process.
pub fn flush(patience: Duration) {
    let Some(voice) = VOICE.get() else { return };
    let until = Instant::now() + patience;
    while !voice.shared.quiet() && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
}

static VOICE: OnceLock<Voice> = OnceLock::new();

struct Voice {
    shared: Arc<Shared>,
    /// `None` if the system gave no thread: lines then only count as dropped once the queue is
    /// full.
    writer: Option<Thread>,
}

struct Shared {
    lines: ArrayQueue<String>,
    dropped: AtomicU64,
    writing: AtomicBool,
}

impl Shared {
    fn quiet(&self) -> bool {
        self.lines.is_empty() && !self.writing.load(Ordering::SeqCst)
    }
}

impl Voice {
    fn start() -> Self {
        let shared = Arc::new(Shared {
            lines: ArrayQueue::new(LINES_MAX),
            dropped: AtomicU64::new(0),
            writing: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let spawned = thread::Builder::new()
            .name("sluice-say".into())
            .stack_size(128 * 1_024)
            .spawn(move || write_for_ever(&theirs));
        Self { shared, writer: spawned.ok().map(|handle| handle.thread().clone()) }
    }
}

fn write_for_ever(shared: &Shared) {
    loop {
        shared.writing.store(true, Ordering::SeqCst);
        while let Some(line) = shared.lines.pop() {
            write_out(&line);
        }
        match shared.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            n => write_out(&line(
                clock::unix_micros(),
                Level::Warn,
                "log lines dropped",
                &[("lines", &n)],
            )),
        }
        shared.writing.store(false, Ordering::SeqCst);
        if shared.lines.is_empty() {
            thread::park();
        }
    }
}

/// A log that cannot be written has nobody to complain to.
fn write_out(line: &str) {
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

fn line(unix_micros: u64, level: Level, message: &str, pairs: &[Pair<'_>]) -> String {
    let mut out = String::with_capacity(128);
    // Writing into a String cannot fail.
    let _ = write!(out, "at={} level={} msg=", Rfc3339(unix_micros), level.name());
    let _ = quote(&mut out, message);
    for (name, value) in pairs {
        let _ = write!(out, " {name}=");
        let _ = quote(&mut out, &value.to_string());
    }
    out.truncate(out.floor_char_boundary(LINE_BYTES_MAX));
    out.push('\n');
    out
}

/// Bare if it is one plain word, else quoted, with everything that could end the line escaped.
fn quote(out: &mut String, text: &str) -> fmt::Result {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '=');
    if !text.is_empty() && text.chars().all(plain) {
        return out.write_str(text);
    }
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            '\n' => out.write_str("\\n")?,
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines() {
        let text = line(0, Level::Warn, "plan refused", &[("why", &"a \"b\"\nc\u{1b}"), ("n", &7)]);
        assert_eq!(
            text,
            "at=1970-01-01T00:00:00.000Z level=warn msg=\"plan refused\" \
             why=\"a \\\"b\\\"\\nc\\u001b\" n=7\n"
        );
    }

    #[test]
    fn long_lines_are_cut() {
        let text = line(0, Level::Info, &"é".repeat(LINE_BYTES_MAX), &[]);
        assert!(text.len() <= LINE_BYTES_MAX + 1 && text.ends_with('\n'));
    }

    #[test]
    fn what_is_said_is_written() {
        info("a test speaks", &[("test", &"what_is_said_is_written")]);
        flush(Duration::from_secs(5));
        assert!(VOICE.get().unwrap().shared.quiet());
    }
}
