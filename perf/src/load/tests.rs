//! The generator against small servers that misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use super::outcome::{GAP, Outcome, SEND_ERROR, TOTAL, TTFT};
use super::run;
use super::spec::{Arrivals, Reader, Shape, Spec};
use crate::traffic::payload::{self, Text};
use crate::traffic::peer::head;

const UNARY: Shape = Shape::Unary { body_bytes: 1024, text: Text::Plain, output_tokens: 8 };
const STREAM: Shape = Shape::Stream { body_bytes: 1024, text: Text::Plain, output_tokens: 4 };

/// Serves every connection on a thread of its own until it is closed; those of a test end with its client.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nodelay(true).unwrap();
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads one whole request; `false` when there is none.
fn asked(stream: &mut TcpStream) -> bool {
    let (mut held, mut buf) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some((end, length)) = head(&held) {
            assert!(held.len() <= end + length as usize, "nobody pipelines here");
            if held.len() == end + length as usize {
                return true;
            }
        }
        match stream.read(&mut buf) {
            Ok(n) if n > 0 => held.extend_from_slice(&buf[..n]),
            _ => return false,
        }
    }
}

fn answering(every: Duration) -> SocketAddr {
    server(move |mut stream| {
        while asked(&mut stream) {
            thread::sleep(every);
            let _ = stream.write_all(&payload::answer());
        }
    })
}

fn streaming(events: u32, every: Duration, last: &'static str) -> SocketAddr {
    server(move |mut stream| {
        while asked(&mut stream) {
            let _ = stream.write_all(&payload::stream_head());
            for _ in 0..events {
                thread::sleep(every);
                if stream.write_all(&payload::burst(1)).is_err() {
                    return;
                }
            }
            let end = format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len());
            let _ = stream.write_all(end.as_bytes());
        }
    })
}

const END: &str = "data: [DONE]\n\n";

fn spec(address: SocketAddr, arrivals: Arrivals, request: Shape, connections: usize) -> Spec {
    let target = format!("http://{address}").parse().unwrap();
    Spec {
        warmup: Duration::from_millis(50),
        duration: Duration::from_millis(300),
        patience: Duration::from_secs(5),
        ..Spec::new(target, arrivals, request, connections)
    }
}

fn seen(spec: &Spec) -> Outcome {
    let outcome = run(spec, |_| ControlFlow::Continue(())).unwrap();
    let fates = outcome.ok + outcome.failed() + outcome.aborted + outcome.unfinished;
    assert_eq!(outcome.sent, fates, "each request has one fate: {outcome:?}");
    let answers: u64 = outcome.timeline.iter().map(|bucket| bucket.ok).sum();
    assert!(answers >= outcome.ok, "the timeline has every answer: {outcome:?}");
    outcome
}

fn closed(concurrency: usize) -> Arrivals {
    Arrivals::Closed { concurrency }
}

#[test]
fn a_closed_loop_keeps_its_connections_busy() {
    let outcome = seen(&spec(answering(Duration::from_millis(5)), closed(4), UNARY, 4));
    assert!(outcome.ok > 10 && outcome.ok == outcome.sent, "{outcome:?}");
    assert!(outcome.histogram(TOTAL).unwrap().min() >= 5_000);
    assert_eq!((outcome.connects, outcome.histogram(SEND_ERROR)), (0, None));
}

#[test]
fn an_open_loop_counts_from_when_requests_were_due() {
    // One connection, whose every answer takes 50 ms, and 100 requests a second: most have nowhere to go.
    let rate = Arrivals::Fixed { per_second: 100.0 };
    let few = seen(&spec(answering(Duration::from_millis(50)), rate.clone(), UNARY, 1));
    assert!(few.ok < 10 && few.unsent > 10 && few.sent + few.unsent == 30, "{few:?}");
    // With room for more, none waits for another.
    let many = seen(&spec(answering(Duration::from_millis(50)), rate, UNARY, 100));
    assert_eq!((many.ok, many.unsent), (30, 0), "{many:?}");
    assert!(many.histogram(TOTAL).unwrap().min() >= 50_000);
    assert_eq!(many.histogram(SEND_ERROR).unwrap().len(), 30);
}

#[test]
fn a_trace_decides_when() {
    let at = (0..20).map(|n| Duration::from_millis(60 + n)).collect();
    let outcome = seen(&spec(answering(Duration::ZERO), Arrivals::Traced { at }, UNARY, 32));
    assert_eq!((outcome.sent, outcome.ok), (20, 20));
}

#[test]
fn streams_are_timed_event_by_event() {
    let address = streaming(4, Duration::from_millis(10), END);
    let outcome = seen(&spec(address, closed(2), STREAM, 2));
    assert!(outcome.ok > 0 && outcome.failed() == 0, "{outcome:?}");
    assert!(outcome.histogram(TTFT).unwrap().min() >= 10_000);
    assert!(outcome.histogram(GAP).unwrap().max() >= 10_000);
    // Of five events three have a gap before them: neither the first nor the last.
    let gaps = outcome.histogram(GAP).unwrap().len();
    assert!(gaps * 5 <= (outcome.events + 10) * 3, "{gaps} gaps, {} events", outcome.events);
}

#[test]
fn failures_have_names() {
    let close = |before: bool| {
        server(move |mut stream| {
            asked(&mut stream);
            if !before {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab");
            }
        })
    };
    let busy = server(|mut stream| {
        while asked(&mut stream) {
            let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = "data: {\"error\":{\"message\":\"gone\"}}\n\ndata: [DONE]\n\n";
    for (address, request, name) in [
        (nobody, UNARY, "connect: connection refused"),
        (close(true), UNARY, "closed before the answer"),
        (close(false), UNARY, "closed within the answer"),
        (busy, UNARY, "http 503"),
        (answering(Duration::ZERO), STREAM, "not a stream"),
        (streaming(1, Duration::ZERO, ": bye\n\n"), STREAM, "stream without an end"),
        (streaming(1, Duration::ZERO, error), STREAM, "error event"),
        (server(|mut stream| drop(stream.write_all(b"220 mail\r\n"))), UNARY, "malformed answer"),
    ] {
        let outcome = seen(&spec(address, closed(2), request, 2));
        assert!(outcome.errors.contains_key(name), "{name}: {:?}", outcome.errors);
        assert_eq!(outcome.ok, 0, "{name}");
    }
}

#[test]
fn silence_is_a_failure_in_the_end() {
    let silent = server(|mut stream| while asked(&mut stream) {});
    let patience = Duration::from_millis(200);
    let outcome = seen(&Spec {
        patience,
        duration: Duration::from_secs(1),
        ..spec(silent, closed(3), UNARY, 3)
    });
    assert!(outcome.errors["silent"] > 0, "{outcome:?}");
    let begun = Arrivals::Fixed { per_second: 30.0 };
    let outcome =
        seen(&Spec { patience: Duration::from_secs(1), ..spec(silent, begun, UNARY, 30) });
    assert_eq!((outcome.sent, outcome.unfinished + outcome.failed()), (9, 9), "{outcome:?}");
}

#[test]
fn requests_are_given_up_at_any_moment() {
    let abort_share = 1.0;
    for (address, request) in [
        (answering(Duration::from_millis(20)), UNARY),
        (streaming(4, Duration::from_millis(10), END), STREAM),
    ] {
        let outcome = seen(&Spec {
            abort_share,
            duration: Duration::from_secs(1),
            ..spec(address, closed(8), request, 8)
        });
        assert!(outcome.aborted > 20 && outcome.failed() == 0, "{outcome:?}");
        assert!(outcome.connects > 20, "an abort costs its connection: {outcome:?}");
        assert!(request == UNARY || outcome.events > 0, "some come far: {outcome:?}");
    }
}

#[test]
fn slow_readers_take_their_time() {
    // Four events of some 190 bytes, with frames and head, at 2,000 bytes a second.
    let readers = Reader::Slow { bytes_per_second: 2_000 };
    let address = streaming(4, Duration::ZERO, END);
    let spec =
        Spec { readers, duration: Duration::from_secs(1), ..spec(address, closed(2), STREAM, 2) };
    let outcome = seen(&spec);
    let rate = outcome.bytes_in as f64 / outcome.seconds;
    assert!(outcome.ok > 0 && rate < 5_000.0, "{rate} bytes/s: {outcome:?}");
    assert!(outcome.histogram(TOTAL).unwrap().min() > 200_000, "{outcome:?}");
}

#[test]
fn breaking_off_keeps_what_was_measured() {
    let mut spec = spec(answering(Duration::from_millis(1)), closed(2), UNARY, 2);
    spec.duration = Duration::from_secs(3600);
    let began = Instant::now();
    let outcome = run(&spec, |progress| match progress.ok {
        0..20 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    let outcome = outcome.unwrap();
    assert!(outcome.interrupted && outcome.ok >= 20 && outcome.histogram(TOTAL).is_some());
    assert!(outcome.seconds < 60.0 && began.elapsed() < Duration::from_secs(60));
}

#[test]
fn large_bodies_leave_whole() {
    let request =
        Shape::Agent { first_bytes: 500_000, last_bytes: 3_000_000, turns: 4, output_tokens: 4 };
    let outcome = seen(&spec(streaming(2, Duration::ZERO, END), closed(2), request, 2));
    assert!(outcome.ok > 0 && outcome.failed() == 0, "{outcome:?}");
    assert!(outcome.bytes_out / outcome.completed.max(1) > 500_000, "{outcome:?}");
}
