//! Judging a run: what clients got, against what servers did, against what the gateway wrote.

use std::time::Duration;

use super::ask::Expect;
use super::book::{Asked, Attempt, Book};
use super::gateway::{Gateway, TOTAL};
use super::reply::{Reply, find};
use crate::lifecycle::outcome::Outcome;
use crate::relay::stream::LAST_WORD;
use crate::runtime::clock::Instant;
use crate::telemetry::row::Row;

/// What excuses an answer that is not what was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Excuses {
    /// Connections break, servers cannot be reached, or clocks jump.
    pub network: bool,
    /// The gateway was drained or stopped in the middle.
    pub drained: bool,
    /// A server said something unasked.
    pub strayed: bool,
    /// How late an abort may reach a server.
    pub slack: Duration,
}

/// Everything that was wrong with a run that is at rest.
pub fn judge(book: &Book, gateway: &Gateway, excuses: &Excuses, now: Instant) -> Vec<String> {
    let mut faults = book.faults.take();
    faults.extend(gateway.imbalances());
    let rows = gateway.rows();
    let attempts = book.attempts.borrow();
    for (id, asked) in book.asked.borrow().iter() {
        let own: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.id == *id).collect();
        let rows = rows.get(id).map_or(&[][..], Vec::as_slice);
        let case = Case { id, asked, attempts: &own, rows, excuses };
        if std::env::var("SLUICE_TELL").is_ok_and(|prefix| id.starts_with(&prefix)) {
            eprintln!("{id}: {}", case.describe());
        }
        if let Err(fault) = case.judge(now) {
            faults.push(format!("{fault}\n  {}", case.describe()));
        }
    }
    let usage = gateway.usage.borrow().len();
    let admitted = gateway.access.borrow().iter().filter(|row| row.attempts > 0).count();
    if usage < admitted {
        faults.push(format!("{usage} usage rows for {admitted} requests that reached a server"));
    }
    faults
}

/// One request, from all sides.
struct Case<'a> {
    id: &'a str,
    asked: &'a Asked,
    attempts: &'a [&'a Attempt],
    rows: &'a [Row],
    excuses: &'a Excuses,
}

impl Case<'_> {
    fn describe(&self) -> String {
        let reply = self.asked.reply.as_ref().map(|reply| {
            let same = self.attempts.iter().map(|a| common(&reply.body, &a.visible)).max();
            let body = &reply.body[same.unwrap_or(0)..];
            let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
            let (status, whole, length) = (reply.status, reply.whole, reply.body.len());
            format!("{status} whole={whole} {length} bytes, {same:?} as sent, then {text:?}")
        });
        let attempts: Vec<String> = self
            .attempts
            .iter()
            .map(|a| {
                format!(
                    "{} sound={} sent_whole={} harmed={} {} bytes",
                    a.status,
                    a.sound,
                    a.sent_whole,
                    a.harmed,
                    a.visible.len()
                )
            })
            .collect();
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| (row.outcome, row.status, row.error, row.attempts))
            .collect();
        format!(
            "{:?} patient={} left={:?} harmed={} reply={reply:?} attempts={attempts:?} rows={rows:?}",
            self.asked.expect, self.asked.patient, self.asked.left, self.asked.harmed
        )
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("{}: {what}", self.id))
    }

    fn judge(&self, now: Instant) -> Result<(), String> {
        if self.rows.len() > 1 {
            return self.fail("more than one outcome");
        }
        if !self.attempts.is_empty() && self.rows.is_empty() {
            return self.fail("a server saw it and it has no outcome");
        }
        self.aborted(now)?;
        if let Some(reply) = &self.asked.reply {
            self.reply(reply)?;
        }
        self.expected()
    }

    /// Servers hear of it when the client leaves.
    fn aborted(&self, now: Instant) -> Result<(), String> {
        let Some(left) = self.asked.left else { return Ok(()) };
        // Who leaves with all of its answer leaves the server time for its last word.
        let had_all = self.rows.first().is_some_and(|row| row.outcome == Outcome::Completed);
        let slack = self.excuses.slack + if had_all { LAST_WORD } else { Duration::ZERO };
        for attempt in self.attempts {
            let over = attempt.over.unwrap_or(now);
            let late = over.since(left.max(attempt.began));
            let began_late = attempt.began.since(left);
            if late.max(began_late) > slack {
                return self.fail(&format!("its server went on for {late:?} after it left"));
            }
        }
        Ok(())
    }

    fn reply(&self, reply: &Reply) -> Result<(), String> {
        // A head that was refused may have had no sound id.
        let echoed = reply.field("x-request-id").or_else(|| reply.field("request-id"));
        let known = echoed == Some(self.id);
        let cut = !reply.whole && (self.excuses.network || self.asked.harmed);
        let unread = self.rows.is_empty() && self.attempts.is_empty();
        let unread = unread && (cut || is_error(&reply.body));
        if !known && !unread {
            return self.fail("an answer with another's id");
        }
        if known && self.rows.len() != 1 {
            return self.fail("an answer without an outcome");
        }
        let broken = self.rows.iter().any(|row| row.outcome == Outcome::UpstreamBroken);
        // A server's own error may stand in a body that ends well.
        let own = |attempt: &&Attempt| find(&attempt.visible, b"\"error\"").is_some();
        if broken && reply.whole && reply.status == 200 && !self.attempts.iter().any(own) {
            return self.fail("a broken answer that seems whole");
        }
        let from_server = |attempt: &&&Attempt| attempt.status == reply.status;
        let candidates: Vec<_> = self.attempts.iter().filter(from_server).collect();
        if reply.status == 200 && self.asked.expect == Expect::Answer {
            if !candidates.iter().any(|attempt| self.matches(reply, attempt)) {
                return self.fail("no server sent this");
            }
        } else if reply.status >= 400 && reply.whole && !reply.body.is_empty() {
            let relayed = candidates.iter().any(|attempt| attempt.visible == reply.body);
            if !relayed && !is_error(&reply.body) {
                return self.fail("an error without an error");
            }
        }
        Ok(())
    }

    /// Whether `reply` is `attempt`'s answer: all of it, or a beginning that does not pretend to be all.
    fn matches(&self, reply: &Reply, attempt: &Attempt) -> bool {
        let common = common(&reply.body, &attempt.visible);
        if reply.whole {
            // A blank line is over with its CR: a terminal event may lack its last LF.
            let all = matches!(&attempt.visible[common..], b"" | b"\n")
                || attempt.open_ended && !attempt.sound;
            return common == reply.body.len() && all && (attempt.sent_whole || !attempt.sound);
        }
        let rest = &reply.body[common..];
        if rest.is_empty() {
            return true;
        }
        // A blank line is over with its CR; its LF may be missing.
        let bare = |end: &usize| attempt.visible[..*end].ends_with(b"\r\n").then(|| end - 1);
        let ends = attempt.ends.iter().flat_map(|end| [Some(*end), bare(end)]).flatten();
        // The error event and the stream may begin alike.
        ends.filter(|end| *end <= common).any(|end| {
            let tail = &reply.body[end..];
            is_error_event(tail) && find(tail, b"[DONE]").is_none()
        })
    }

    /// Where nothing went wrong, nothing may have gone wrong.
    fn expected(&self) -> Result<(), String> {
        let asked = self.asked;
        let excused = self.excuses.drained || asked.harmed || !asked.patient;
        let excused = excused || self.excuses.network && asked.reply.is_none();
        if let (Expect::Own(status), false) = (asked.expect, excused) {
            let got = asked.reply.as_ref().map(|reply| reply.status);
            if got != Some(status) && !self.excuses.network {
                return self.fail(&format!("expected {status}"));
            }
            return Ok(());
        }
        let row = self.rows.first();
        let completed = row.is_some_and(|row| row.outcome == Outcome::Completed);
        let whole = asked.reply.as_ref().is_some_and(|reply| reply.whole);
        if completed && asked.patient && !asked.harmed && !whole {
            return self.fail("completed, and the client does not have it");
        }
        let sound = self
            .attempts
            .iter()
            .all(|attempt| attempt.sound && !attempt.harmed && !attempt.after_stray);
        // A client may read so slowly that the request's whole time is over.
        let slow = row.is_some_and(|row| row.duration_micros as u128 >= TOTAL.as_micros());
        if excused || slow || self.excuses.network || !sound || asked.expect != Expect::Answer {
            return Ok(());
        }
        // What a server says unasked on a connection that was just taken for this request is taken for its
        // answer, perhaps before the server has read it, and is none.
        let own = |reply: &Reply| match reply.status {
            429 | 503 => true,
            502 => self.excuses.strayed,
            _ => false,
        };
        let own = self.attempts.is_empty() && asked.reply.as_ref().is_some_and(own);
        match completed && whole || own {
            true => Ok(()),
            false => self.fail("nothing went wrong, and it did not get its answer"),
        }
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn is_error(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body)
        .is_ok_and(|value| value.get("error").is_some())
}

/// An error event, or the beginning of one.
fn is_error_event(tail: &[u8]) -> bool {
    [&b"data: {\"error\":"[..], b"event: error\n"]
        .iter()
        .any(|start| common(tail, start) == tail.len().min(start.len()))
}
