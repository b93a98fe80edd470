//! One client: takes requests as they fall due, one at a time, over a connection that is kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_sim::engine::Time;

use super::schedule::Schedule;
use crate::Failure;
use crate::replay::body::render;
use crate::replay::chains::MODEL;
use crate::replay::fleet::{Course, Fate, Load};

/// No answer takes longer between two reads.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a gateway may take until it serves.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Lines of a head and of a chunk are no longer.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// When a request was due, and which it is.
pub type Due = (Time, usize);

/// Serves requests until all are over.
pub fn run(load: &Load, schedule: &Schedule, dues: &Mutex<Receiver<Due>>, gateway: SocketAddr) {
    let (mut body, mut kept) = (String::new(), None);
    // One client waits for the next request, the others for their turn to wait.
    let next = || dues.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
    while let Some((at, index)) = next() {
        let ask = &load.trace.asks[index];
        render(ask, MODEL, &mut body);
        // The usage tells what was cached.
        body.truncate(body.len() - 1);
        body.push_str(",\"stream_options\":{\"include_usage\":true}}");
        let mut answer = Answer::new(at);
        let session = ask.session.map(|session| session.to_string());
        let request = request(gateway, session.as_deref(), &body);
        let done = exchange(&mut kept, gateway, &request, &mut answer, schedule);
        if done.is_err() {
            kept = None;
        }
        schedule.done(index, answer.course(done.is_ok()), &answer.gaps_us);
    }
}

fn request(gateway: SocketAddr, session: Option<&str>, body: &str) -> String {
    let session = session.map_or(String::new(), |id| format!("x-session-id: {id}\r\n"));
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {gateway}\r\n{session}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What is seen of an answer.
struct Answer {
    arrived: Time,
    status: u16,
    first_token: Time,
    last_token: Time,
    output_tokens: u32,
    cached_tokens: u32,
    gaps_us: Vec<u32>,
}

impl Answer {
    fn new(arrived: Time) -> Self {
        let (status, first_token, last_token) = (0, 0, 0);
        let (output_tokens, cached_tokens, gaps_us) = (0, 0, Vec::new());
        Self { arrived, status, first_token, last_token, output_tokens, cached_tokens, gaps_us }
    }

    /// A line of the body: an event's data, or nothing.
    fn line(&mut self, now: Time, line: &str) {
        let Some(data) = line.strip_prefix("data: ") else { return };
        let said = data.find("\"content\":\"").map(|at| &data[at + 11..]);
        if said.is_some_and(|text| !text.starts_with('"')) {
            match self.first_token {
                0 => self.first_token = now,
                _ => self.gaps_us.push(((now - self.last_token) / 1_000) as u32),
            }
            self.last_token = now;
        }
        if let Some(tokens) = number(data, "\"completion_tokens\":") {
            self.output_tokens = tokens;
            self.cached_tokens = number(data, "\"cached_tokens\":").unwrap_or(0);
        }
    }

    fn course(&self, whole: bool) -> Course {
        let fate = match (whole, self.status) {
            (true, 200) if self.first_token > 0 => Fate::Served,
            (_, 429 | 503) => Fate::Refused,
            _ => Fate::Failed,
        };
        Course {
            fate,
            arrived: self.arrived,
            first_token: self.first_token,
            last_token: self.last_token,
            output_tokens: self.output_tokens,
            cached_tokens: self.cached_tokens,
            ..Course::new()
        }
    }
}

fn number(text: &str, key: &str) -> Option<u32> {
    let rest = text[text.find(key)? + key.len()..].trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

type Connection = BufReader<TcpStream>;

fn connect(gateway: SocketAddr) -> std::io::Result<Connection> {
    let socket = TcpStream::connect(gateway)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(socket))
}

/// Sends a request and reads its answer; a kept connection that was closed meanwhile is made anew once.
fn exchange(
    kept: &mut Option<Connection>,
    gateway: SocketAddr,
    request: &str,
    answer: &mut Answer,
    schedule: &Schedule,
) -> std::io::Result<()> {
    if let Some(mut connection) = kept.take() {
        let sent = connection.get_mut().write_all(request.as_bytes());
        if sent.is_ok() && read(&mut connection, answer, schedule).is_ok() {
            *kept = Some(connection);
            return Ok(());
        }
        if answer.status != 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut connection = connect(gateway)?;
    connection.get_mut().write_all(request.as_bytes())?;
    read(&mut connection, answer, schedule)?;
    *kept = Some(connection);
    Ok(())
}

fn line(connection: &mut Connection, line: &mut String) -> std::io::Result<()> {
    line.clear();
    match connection.take(LINE_BYTES_MAX).read_line(line)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Reads one answer, chunked or of a known length.
fn read(
    connection: &mut Connection,
    answer: &mut Answer,
    schedule: &Schedule,
) -> std::io::Result<()> {
    let (mut text, mut length) = (String::new(), None);
    line(connection, &mut text)?;
    answer.status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    while text != "\r\n" {
        line(connection, &mut text)?;
        let lower = text.to_ascii_lowercase();
        let value = lower.strip_prefix("content-length:");
        length = length.or(value.and_then(|value| value.trim().parse::<u64>().ok()));
    }
    let mut body = Vec::new();
    if let Some(length) = length {
        connection.take(length).read_to_end(&mut body)?;
        return Ok(());
    }
    loop {
        line(connection, &mut text)?;
        let size = u64::from_str_radix(text.trim(), 16).map_err(std::io::Error::other)?;
        let had = body.len();
        connection.take(size + 2).read_to_end(&mut body)?;
        if body.len() as u64 != had as u64 + size + 2 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        body.truncate(body.len() - 2);
        if size == 0 {
            return Ok(());
        }
        lines(&mut body, answer, schedule.now());
    }
}

/// Takes whole lines from the beginning of `body`.
fn lines(body: &mut Vec<u8>, answer: &mut Answer, now: Time) {
    let Some(end) = memchr::memrchr(b'\n', body) else { return };
    let whole = String::from_utf8_lossy(&body[..end]).into_owned();
    whole.lines().for_each(|line| answer.line(now, line));
    body.drain(..=end);
}

/// Waits until the gateway's model answers.
///
/// # Errors
/// It does not, for a minute.
pub fn wait_until_ready(gateway: SocketAddr) -> Result<(), Failure> {
    let began = Instant::now();
    let body = format!(
        "{{\"model\":\"{MODEL}\",\"max_tokens\":1,\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}]}}"
    );
    let request =
        request(gateway, None, &body).replace("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n");
    while began.elapsed() < START_PATIENCE {
        let mut answer = Vec::new();
        let asked = TcpStream::connect(gateway).and_then(|mut socket| {
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.write_all(request.as_bytes())?;
            let _ = socket.read_to_end(&mut answer);
            Ok(())
        });
        if asked.is_ok() && answer.starts_with(b"HTTP/1.1 200") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("the gateway does not answer its model".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_from_its_events() {
        let mut answer = Answer::new(5);
        answer.status = 200;
        let mut bytes =
            b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"cho"
                .to_vec();
        lines(&mut bytes, &mut answer, 2_000_000);
        assert_eq!(bytes, b"data: {\"cho");
        assert_eq!(answer.first_token, 2_000_000);
        answer.line(5_000_000, "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}");
        answer.line(
            6_000_000,
            "data: {\"usage\":{\"completion_tokens\":2,\"d\":{\"cached_tokens\": 48}}}",
        );
        answer.line(6_000_000, "data: [DONE]");
        let course = answer.course(true);
        assert_eq!(
            (course.fate, course.output_tokens, course.cached_tokens),
            (Fate::Served, 2, 48)
        );
        assert_eq!((answer.gaps_us.clone(), course.last_token), (vec![3_000], 5_000_000));
        assert_eq!(answer.course(false).fate, Fate::Failed);
    }
}
