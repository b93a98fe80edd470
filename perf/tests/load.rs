//! The load generator as a program: what it prints, and what is left of an interrupted run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(words: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-perf"));
    Running(command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// A server that answers, and its address.
fn mock() -> (Running, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let running = start(&["mock", "--listen", &address.to_string()]);
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "the mock does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    (running, address)
}

/// Its status and all that is still to be read on its stdout.
fn end(mut running: Running) -> (ExitStatus, String) {
    let mut said = String::new();
    running.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    (running.0.wait().unwrap(), said)
}

#[test]
fn an_interrupted_run_prints_what_it_measured() {
    let (_mock, address) = mock();
    let target = format!("http://{address}");
    let mut load =
        start(&["load", "--target", &target, "--warmup", "0.1", "--duration", "3600", "--json"]);
    let said = BufReader::new(load.0.stderr.take().unwrap());
    assert!(said.lines().map_while(Result::ok).any(|line| line.starts_with("measuring")));
    std::thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&load.0), Signal::INT).unwrap();
    let (status, text) = end(load);
    let outcome: Value = serde_json::from_str(&text).unwrap();
    assert!(status.success() && outcome["interrupted"] == true, "{text}");
    assert!(outcome["ok"].as_u64() > Some(0) && outcome["hist"]["total"].is_string(), "{text}");
}

#[test]
fn a_spec_that_was_printed_runs() {
    let (_mock, address) = mock();
    let target = format!("http://{address}");
    let options = ["--rate", "200", "--warmup", "0", "--duration", "0.5", "--print-spec"];
    let (status, spec) = end(start(&[&["load", "--target", &target], &options[..]].concat()));
    assert!(status.success(), "{spec}");
    let file = std::env::temp_dir().join(format!("sluice-perf-{}.json", std::process::id()));
    std::fs::write(&file, spec).unwrap();
    let (status, text) = end(start(&["load", "--spec", &file.to_string_lossy()]));
    std::fs::remove_file(&file).unwrap();
    assert!(status.success() && text.contains("100 sent"), "{text}");
}

#[test]
fn an_impossible_run_says_why() {
    let mut load = start(&["load", "--target", "http://127.0.0.1:9", "--abort-share", "2"]);
    let mut said = String::new();
    load.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(
        !end(load).0.success() && said.contains("'--abort-share <SHARE>': 2 is not in 0..=1"),
        "{said}"
    );
}

#[test]
fn a_run_without_an_answer_fails_and_says_so_last() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = format!("http://{address}");
    let options = ["--concurrency", "2", "--warmup", "0", "--duration", "0.3"];
    for json in [&[][..], &["--json"]] {
        let mut load = start(&[&["load", "--target", &target], &options[..], json].concat());
        let mut said = String::new();
        load.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("sluice-perf: no request was answered: "), "{said}");
        let (status, figures) = end(load);
        assert!(status.code() == Some(1) && !figures.is_empty(), "{figures}");
    }
}
