//! Clients that each begin a stream, read its first event, and then sit there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::field::Field;
use super::{Answer, CLIENTS_MAX, Pace, payload};
use crate::Failure;

/// Bytes of each stream's request.
const REQUEST_BYTES: usize = 1024;
/// How long the first event may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Streams that are open and silent, until this is dropped.
pub struct Held(Vec<Box<dyn Read>>);

/// An upstream that begins streams and leaves them, on a thread of its own.
pub struct Silent {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Silent {
    /// Serves `listener`.
    pub fn begin(listener: TcpListener) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let answer = Answer::stream(1, Pace::Once);
            let Ok(mut field) = Field::new(listener, answer) else { return };
            field.expect_clients(CLIENTS_MAX);
            while !stopped.load(Ordering::Relaxed)
                && field.run_for(Duration::from_millis(100)).is_ok()
            {}
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Held {
    /// None yet.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Opens so many more; with a certificate file, over TLS.
    ///
    /// # Errors
    /// One of them does not begin to stream.
    pub fn open(
        &mut self,
        count: usize,
        proxy: SocketAddr,
        trust: Option<&Path>,
    ) -> Result<(), Failure> {
        let tls = trust.map(client_config).transpose()?;
        for _ in 0..count {
            let stream = TcpStream::connect(proxy)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let held: Box<dyn Read> = match &tls {
                Some(config) => {
                    let name = ServerName::try_from("localhost")?;
                    let session = ClientConnection::new(config.clone(), name)?;
                    Box::new(begun(StreamOwned::new(session, stream), self.0.len())?)
                }
                None => Box::new(begun(stream, self.0.len())?),
            };
            self.0.push(held);
        }
        Ok(())
    }
}

fn begun<S: Read + Write>(mut stream: S, index: usize) -> Result<S, Failure> {
    stream.write_all(&payload::request(index, REQUEST_BYTES, payload::Text::Plain, true))?;
    let mut came = Vec::new();
    let mut buf = [0; 4096];
    while memchr::memmem::find(&came, b"\n\n").is_none() {
        match stream.read(&mut buf)? {
            0 => return Err("a stream ended before it began".into()),
            n => came.extend_from_slice(&buf[..n]),
        }
    }
    Ok(stream)
}

fn client_config(trust: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(trust)? {
        roots.add(certificate?)?;
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}
