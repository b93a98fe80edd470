//! Response heads, as uvicorn writes them, or llama.cpp's HTTP library.

use super::llama;
use std::cell::RefCell;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// How a body's end is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    /// By the connection's end.
    UntilClose,
}

/// A head without its framing.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    /// Empty where there is nothing to describe.
    pub content_type: &'static str,
    /// The connection ends with this answer, and says so.
    pub close: bool,
    /// The client's request id, echoed.
    pub request_id: Option<String>,
    /// Whole lines, CRLF included.
    pub extra: String,
    /// llama.cpp's, which says for how many seconds the connection is kept.
    pub llama: Option<u64>,
}

/// JSON.
pub const JSON: &str = "application/json";
/// Server-sent events.
pub const EVENTS: &str = "text/event-stream; charset=utf-8";
/// Prometheus text.
pub const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A page.
pub const HTML: &str = "text/html; charset=utf-8";

impl Head {
    /// A head without anything special.
    pub fn new(status: u16, content_type: &'static str) -> Self {
        let (request_id, extra) = (None, String::new());
        Self { status, content_type, close: false, request_id, extra, llama: None }
    }

    /// The bytes of the head, blank line included.
    pub fn write(&self, framing: Framing) -> Vec<u8> {
        match self.llama {
            None => self.uvicorn(framing),
            Some(keep_seconds) => self.llama(framing, keep_seconds),
        }
    }

    fn llama(&self, framing: Framing, keep_seconds: u64) -> Vec<u8> {
        let mut text = String::with_capacity(256);
        put(&mut text, format_args!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)));
        text.push_str("Server: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n");
        if self.content_type == EVENTS {
            text.push_str("X-Accel-Buffering: no\r\n");
        }
        text.push_str(&self.extra);
        let kind = llama::content_type(self.content_type);
        put(&mut text, format_args!("Content-Type: {kind}\r\n"));
        match framing {
            Framing::Length(bytes) => {
                put(&mut text, format_args!("Content-Length: {bytes}\r\n"));
            }
            Framing::Chunked => text.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => {}
        }
        let most = llama::ANSWERS_MAX;
        match self.close || framing == Framing::UntilClose {
            true => text.push_str("Connection: close\r\n"),
            false => {
                put(&mut text, format_args!("Keep-Alive: timeout={keep_seconds}, max={most}\r\n"))
            }
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    fn uvicorn(&self, framing: Framing) -> Vec<u8> {
        let mut text = String::with_capacity(256);
        text.push_str("HTTP/1.1 ");
        put(&mut text, format_args!("{} {}\r\n", self.status, reason(self.status)));
        DATE.with_borrow_mut(|date| put(&mut text, format_args!("date: {}\r\n", date.now())));
        text.push_str("server: uvicorn\r\n");
        text.push_str(&self.extra);
        if let Framing::Length(bytes) = framing {
            put(&mut text, format_args!("content-length: {bytes}\r\n"));
        }
        if !self.content_type.is_empty() {
            put(&mut text, format_args!("content-type: {}\r\n", self.content_type));
        }
        if let Some(id) = &self.request_id {
            put(&mut text, format_args!("x-request-id: {id}\r\n"));
        }
        if self.close || framing == Framing::UntilClose {
            text.push_str("connection: close\r\n");
        }
        if framing == Framing::Chunked {
            text.push_str("transfer-encoding: chunked\r\n");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
}

/// Unix time.
pub fn unix_now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

thread_local! {
    static DATE: RefCell<DateLine> =
        const { RefCell::new(DateLine { second: 0, text: String::new() }) };
}

/// The date as HTTP writes it (RFC 9110, section 5.6.7), made once a second.
struct DateLine {
    second: u64,
    text: String,
}

impl DateLine {
    fn now(&mut self) -> &str {
        let second = unix_now().as_secs();
        if second != self.second {
            (self.second, self.text) = (second, http_date(second));
        }
        &self.text
    }
}

fn http_date(unix: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, time) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month],
        time / 3_600,
        time / 60 % 60,
        time % 60
    )
}

/// Year, month from 0, and day from 1 of a day since 1970-01-01.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month, days + 1)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Request Entity Too Large",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Overloaded",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_http_dates() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(http_date(1_735_689_599), "Tue, 31 Dec 2024 23:59:59 GMT");
    }
}
