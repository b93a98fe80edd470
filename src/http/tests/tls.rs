//! TLS over connections that take little at a time.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::http::tls::Tls;
use crate::http::wire::Wire;
use crate::runtime::kit::Kit;
use crate::runtime::socket::Socket;
use crate::runtime::twin::faults::Faults;
use crate::runtime::twin::{net, run, spawn};

const NAME: &str = "gpu";

/// Both sides of one connection.
async fn pair() -> (Wire, Wire) {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("made");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let server = ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.der().clone()], key).expect("a key");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

    let address: SocketAddr = "10.1.0.1:443".parse().expect("an address");
    let listener = net::listen(address);
    let near = net::connect(address).await.expect("it listens");
    let (far, _) = listener.accept().await.expect("it listens");
    let kit = Kit::new(Duration::from_millis(10), 1);
    let near_tls = Tls::client(Arc::new(client), NAME.try_into().expect("a name")).expect("made");
    let far_tls = Tls::server(Arc::new(server)).expect("made");
    (
        Wire::secured(Socket::from_twin(near), kit.pool.clone(), near_tls),
        Wire::secured(Socket::from_twin(far), kit.pool, far_tls),
    )
}

/// The server's flight is larger than its send buffer, and the client says nothing more before it has all
/// of it: what did not fit leaves when there is room, not with the next read.
#[test]
fn a_flight_that_does_not_fit_leaves_without_another_read() {
    for seed in 0..20 {
        let faults = Faults { window_bytes: (64, 512), ..Faults::NONE };
        let (got, _) = run(seed, faults, || async {
            let (mut near, mut far) = pair().await;
            spawn(async move {
                poll_fn(|cx| near.poll_handshake(cx)).await.expect("shaken");
                assert_eq!(near.send(b"hello").expect("sent"), 5);
                while !near.flushed() {
                    poll_fn(|cx| near.poll_writable(cx)).await.expect("open");
                }
                let _ = poll_fn(|cx| near.poll_fill(cx)).await;
            });
            poll_fn(|cx| far.poll_handshake(cx)).await.expect("shaken");
            let _ = poll_fn(|cx| far.poll_fill(cx)).await;
            far.take_input().filled().to_vec()
        });
        assert_eq!(got, b"hello", "seed {seed}");
    }
}
