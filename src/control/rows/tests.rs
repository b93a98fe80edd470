//! Writers against files that are slow, full, broken or rotated.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::access::AccessWriter;
use super::outlet::{self, Outlet};
use super::usage::UsageWriter;
use super::{Desk, Writers};
use crate::config::plan::{Log, Sink};
use crate::telemetry::{Inline, Names, Row, Rows};

/// A disk that can be made to misbehave.
#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Error kind to answer with: 0 none, 1 full, 2 broken.
    fault: Arc<AtomicU64>,
    slow: Arc<AtomicBool>,
}

impl Disk {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.slow.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(2));
        }
        let mut held = self.bytes.lock().unwrap();
        // Short writes, so that rows are cut.
        let n = bytes.len().min(100);
        match self.fault.load(Ordering::Relaxed) {
            0 => held.extend_from_slice(&bytes[..n]),
            1 => return Err(io::ErrorKind::StorageFull.into()),
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn outlet_to(
    disk: &Disk,
) -> Outlet<impl FnMut(&Sink) -> io::Result<Box<dyn Write + Send>> + use<>> {
    let disk = disk.clone();
    Outlet::new(move |_: &Sink| Ok(Box::new(disk.clone()) as Box<dyn Write + Send>))
}

fn row(id: u64) -> Row {
    let mut row = Row::new(Arc::new(Names::default()), 0);
    row.request_id = Inline::new(&id.to_string());
    row
}

fn desk() -> Desk {
    let desk = Desk::default();
    desk.change(|orders| orders.sink = Some(Sink::Stdout));
    desk
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Orders hold from a writer's next batch on.
fn orders_are_read() {
    thread::sleep(10 * super::NAP);
}

fn ids(text: &str) -> Vec<u64> {
    let id = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["request_id"].as_str().unwrap().parse().unwrap()
    };
    text.lines().map(id).collect()
}

#[test]
fn written_and_dropped_make_offered_under_a_slow_writer() {
    let disk = Disk::default();
    disk.slow.store(true, Ordering::Relaxed);
    let rows: Vec<_> = (0..2).map(|_| Arc::new(Rows::new(16))).collect();
    let (desk, writer) = (desk(), AccessWriter::new(rows.clone(), outlet_to(&disk)));
    let thread = {
        let desk = desk.clone();
        thread::spawn(move || writer.run(desk))
    };
    for id in 0..400 {
        rows[id as usize % 2].access.offer(row(id));
        thread::sleep(Duration::from_micros(200));
    }
    desk.change(|orders| orders.finish = true);
    thread.join().unwrap();
    let sum = |of: fn(&Rows) -> u64| rows.iter().map(|one| of(one)).sum::<u64>();
    let (written, dropped) = (sum(|r| r.access.written()), sum(|r| r.access.dropped()));
    assert_eq!(written + dropped, 400);
    assert!(dropped > 0, "the writer was too fast for this test");
    assert_eq!(ids(&disk.text()).len() as u64, written);
}

#[test]
fn an_access_log_that_fails_counts_its_rows() {
    let disk = Disk::default();
    disk.fault.store(2, Ordering::Relaxed);
    let rows = vec![Arc::new(Rows::new(16))];
    (0..10).for_each(|id| rows[0].access.offer(row(id)));
    let (desk, writer) = (desk(), AccessWriter::new(rows.clone(), outlet_to(&disk)));
    desk.change(|orders| orders.finish = true);
    writer.run(desk);
    assert_eq!((rows[0].access.written(), rows[0].access.dropped()), (0, 10));
}

#[test]
fn usage_rows_survive_a_full_and_a_broken_disk() {
    for fault in [1, 2] {
        let disk = Disk::default();
        let rows = vec![Arc::new(Rows::new(4))];
        let (desk, writer) = (desk(), UsageWriter::new(rows.clone(), outlet_to(&disk)));
        let thread = {
            let desk = desk.clone();
            thread::spawn(move || writer.run(desk))
        };
        disk.fault.store(fault, Ordering::Relaxed);
        let usage = &rows[0].usage;
        (0..4).for_each(|id| usage.reserve().unwrap().fill(row(id)));
        thread::sleep(Duration::from_millis(60));
        assert!(usage.reserve().is_none(), "no row is written, so no place is free");
        disk.fault.store(0, Ordering::Relaxed);
        wait_until("rows are written again", || usage.taken() == 0);
        usage.reserve().unwrap().fill(row(4));
        desk.change(|orders| orders.finish = true);
        thread.join().unwrap();
        assert_eq!(ids(&disk.text()), [0, 1, 2, 3, 4]);
        assert_eq!((usage.written(), usage.faults()), (5, 0));
    }
}

#[test]
fn usage_places_never_exceed_the_queue_under_load() {
    let disk = Disk::default();
    disk.slow.store(true, Ordering::Relaxed);
    let rows = vec![Arc::new(Rows::new(8))];
    let (desk, writer) = (desk(), UsageWriter::new(rows.clone(), outlet_to(&disk)));
    let thread = {
        let desk = desk.clone();
        thread::spawn(move || writer.run(desk))
    };
    let usage = &rows[0].usage;
    let mut next = 0;
    while next < 60 {
        let Some(place) = usage.reserve() else { continue };
        assert!(usage.taken() <= 8);
        if next % 7 != 3 {
            place.fill(row(next));
        }
        next += 1;
    }
    desk.change(|orders| orders.finish = true);
    thread.join().unwrap();
    let wanted: Vec<_> = (0..60).filter(|id| id % 7 != 3).collect();
    assert_eq!(ids(&disk.text()), wanted);
    assert_eq!((usage.taken(), usage.faults()), (0, 0));
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn files_are_followed_reopened_and_finished() {
    let folder = Folder::new("rows");
    let [first, rotated, second, usage] =
        ["first", "rotated", "second", "usage"].map(|name| folder.0.join(name));
    std::fs::write(&first, "{\"half\":").unwrap();
    let rows = vec![Arc::new(Rows::new(64))];
    let mut log = Log {
        access: Some(Sink::File(first.clone())),
        usage: Some(usage.clone()),
        queue_rows_max: 64,
    };
    let writers = Writers::start(&rows, &log).unwrap();
    let written = |n| wait_until("row is written", || rows[0].access.written() == n);

    rows[0].access.offer(row(1));
    rows[0].usage.reserve().unwrap().fill(row(1));
    written(1);
    std::fs::rename(&first, &rotated).unwrap();
    writers.reopen();
    orders_are_read();
    rows[0].access.offer(row(2));
    written(2);
    (log.access, log.usage) = (Some(Sink::File(second.clone())), None);
    writers.follow(&log);
    orders_are_read();
    rows[0].access.offer(row(3));
    rows[0].usage.reserve().unwrap().fill(row(3));
    assert_eq!(writers.finish(Duration::from_secs(5)).await, (true, true));

    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let (torn, rest) = read(&rotated).split_once('\n').map(|(a, b)| (a.into(), b.into())).unwrap();
    let (torn, rest): (String, String) = (torn, rest);
    assert_eq!((torn.as_str(), ids(&rest)), ("{\"half\":", vec![1]));
    assert_eq!(ids(&read(&first)), [2]);
    assert_eq!(ids(&read(&second)), [3]);
    assert_eq!(ids(&read(&usage)), [1, 3], "promised rows go to the last file there was");
}

#[test]
fn a_sink_that_cannot_be_opened_is_an_error() {
    let nowhere = Sink::File("/nonexistent/dir/file".into());
    assert!(outlet::open(&nowhere).is_err());
}
