use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::faults::Faults;
use super::net::Socket;
use super::{Report, net, run, sleep, spawn};
use crate::runtime::buf::{Buf, Pool};
use crate::runtime::clock;
use crate::runtime::task;

fn address() -> SocketAddr {
    "10.1.0.1:80".parse().expect("an address")
}

fn pool() -> Pool {
    Pool::new(crate::lifecycle::ledger::Ledgers::new())
}

/// Two ends of one connection.
async fn pair() -> (Socket, Socket) {
    let listener = net::listen(address());
    let near = loop {
        if let Ok(near) = net::connect(address()).await {
            break near;
        }
    };
    let (far, _) = listener.accept().await.expect("it listens");
    (near, far)
}

async fn send_all(socket: &Socket, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_send(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                socket.clone().drained().await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn reading(
    socket: &Socket,
    buf: Buf,
) -> impl Future<Output = (std::io::Result<usize>, Buf)> + use<> {
    socket.clone().read(buf)
}

async fn read_to_end(socket: &Socket) -> (Vec<u8>, std::io::Result<()>) {
    let pool = pool();
    let mut all = Vec::new();
    loop {
        let (result, buf) = reading(socket, pool.small()).await;
        all.extend_from_slice(buf.filled());
        match result {
            Ok(0) => return (all, Ok(())),
            Ok(_) => {}
            Err(error) => return (all, Err(error)),
        }
    }
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Sends both ways at once over a rough network.
fn exchange(seed: u64, faults: Faults) -> (Vec<Vec<u8>>, Report) {
    run(seed, faults, || async {
        let (near, far) = pair().await;
        let got = Rc::new(RefCell::new(Vec::new()));
        for (from, to, length) in
            [(near.clone(), far.clone(), 50_000), (far.clone(), near.clone(), 30_000)]
        {
            let got = got.clone();
            task::spawn(async move {
                let bytes = text(length);
                let _ = send_all(&from, &bytes).await;
                from.shutdown(std::net::Shutdown::Write);
            });
            task::spawn(async move {
                let (bytes, _) = read_to_end(&to).await;
                got.borrow_mut().push(bytes);
            });
        }
        drop((near, far));
        while got.borrow().len() < 2 {
            clock::sleep(Duration::from_millis(1)).await;
        }
        got.take()
    })
}

#[test]
fn bytes_arrive_in_order_and_once() {
    for seed in 0..30 {
        let (mut got, _) = exchange(seed, Faults::ROUGH);
        got.sort_by_key(Vec::len);
        assert!(got == [text(30_000), text(50_000)], "seed {seed}");
    }
}

#[test]
fn a_broken_connection_keeps_a_prefix() {
    let faults = Faults { broken: 500_000, trouble_bytes_max: 60_000, ..Faults::ROUGH };
    let whole = text(50_000);
    let mut cut = 0;
    for seed in 0..30 {
        for bytes in exchange(seed, faults).0 {
            cut += usize::from(bytes.len() < 30_000);
            assert_eq!(bytes, whole[..bytes.len()], "seed {seed}");
        }
    }
    assert!(cut > 5);
}

#[test]
fn a_seed_is_a_whole_run() {
    let traces: Vec<_> = (0..20).map(|seed| exchange(seed, Faults::BROKEN).1).collect();
    let again: Vec<_> = (0..20).map(|seed| exchange(seed, Faults::BROKEN).1).collect();
    assert_eq!(traces, again);
    assert_eq!(traces.iter().map(|r| r.trace).collect::<BTreeSet<_>>().len(), 20);
}

#[test]
fn the_order_of_ready_tasks_is_drawn() {
    let order = |seed| {
        let (order, _) = run(seed, Faults::NONE, || async {
            let order = Rc::new(RefCell::new(Vec::new()));
            for id in 0..4 {
                let order = order.clone();
                spawn(async move { order.borrow_mut().push(id) });
            }
            sleep(Duration::from_millis(1)).await;
            order.take()
        });
        order
    };
    assert!((0..200).map(order).collect::<BTreeSet<_>>().len() > 20);
}

#[test]
fn a_dropped_read_loses_what_arrives() {
    let (rest, _) = run(1, Faults::NONE, || async {
        let (near, far) = pair().await;
        let mut armed = Box::pin(reading(&far, pool().small()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(armed.as_mut().poll(&mut cx).is_pending());
        send_all(&near, b"lost").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        drop(armed);
        sleep(Duration::from_millis(1)).await;
        send_all(&near, b"kept").await.unwrap();
        near.shutdown(std::net::Shutdown::Write);
        read_to_end(&far).await.0
    });
    assert_eq!(rest, b"kept");
}

#[test]
fn shutdown_completes_an_armed_read() {
    run(1, Faults::ROUGH, || async {
        let (near, _far) = pair().await;
        let armed = reading(&near, pool().small());
        let other = near.clone();
        task::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            other.shutdown(std::net::Shutdown::Read);
        });
        assert!(matches!(armed.await, (Ok(0), _)));
    });
}

#[test]
fn closing_with_unread_bytes_resets() {
    run(1, Faults::NONE, || async {
        let (near, far) = pair().await;
        send_all(&near, b"unread").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        drop(far);
        let (_, end) = read_to_end(&near).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(send_all(&near, b"more").await.is_err());
    });
}

#[test]
fn half_closed_connections_go_on_the_other_way() {
    run(1, Faults::ROUGH, || async {
        let (near, far) = pair().await;
        near.shutdown(std::net::Shutdown::Write);
        assert!(read_to_end(&far).await.0.is_empty());
        assert!(!far.established());
        send_all(&far, b"answer").await.unwrap();
        drop(far);
        assert_eq!(read_to_end(&near).await.0, b"answer");
    });
}

#[test]
fn nobody_listens() {
    run(1, Faults::NONE, || async {
        let refused = net::connect(address()).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn the_clock_jumps_forward_only() {
    let faults =
        Faults { clock_jump: 300_000, clock_jump_max: Duration::from_secs(5), ..Faults::NONE };
    let (jumped, report) = run(7, faults, || async {
        let mut last = clock::now();
        for _ in 0..200 {
            sleep(Duration::from_millis(10)).await;
            assert!(clock::now().since(last) >= Duration::from_millis(10));
            last = clock::now();
        }
        super::world().jumped()
    });
    assert!(jumped > Duration::from_secs(10), "{jumped:?}");
    assert!(report.ended.since(clock::Instant::from_nanos(0)) > jumped);
}

#[test]
fn a_full_window_blocks_until_somebody_reads() {
    let faults = Faults { window_bytes: (1000, 1000), ..Faults::NONE };
    run(3, faults, || async {
        let (near, far) = pair().await;
        let bytes = text(5000);
        assert_eq!(near.try_send(&bytes).unwrap(), 1000);
        assert_eq!(near.try_send(&bytes).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let mut draining = Box::pin(near.clone().drained());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(pin!(&mut draining).poll(&mut cx).map(|_| ()), Poll::Pending);
        sleep(Duration::from_millis(1)).await;
        let (read, _) = reading(&far, pool().small()).await;
        assert_eq!(read.unwrap(), 1000);
        draining.await.unwrap();
    });
}
