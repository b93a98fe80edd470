//! The control plane's own questions to endpoints: hyper over TCP or TLS, with bounds on time and bytes.
//!
//! Nothing of clients' traffic passes here. The endpoint's own credentials and headers go along: it may
//! refuse to answer without.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::config::plan::{Endpoint, Engine};

/// Addresses tried for one question.
const ADDRESSES_MAX: usize = 4;

/// A question.
#[derive(Clone, Debug)]
pub struct Ask {
    pub path: Box<str>,
    /// JSON to be posted; without it, a GET.
    pub body: Option<Vec<u8>>,
    /// Larger answers are an error. 0: only the status is wanted, and the rest is not waited for.
    pub answer_bytes_max: usize,
}

/// Its answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// One endpoint, and the connection to it that is kept between questions.
pub struct Client {
    endpoint: Endpoint,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Without a connection yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, connection: None }
    }

    /// Asks over the connection that is there, else over a fresh one to the addresses in turn, beginning with
    /// the `round`-th. `patience` is for all of them together. The error is the last address's. A connection
    /// that was there and is silent uses all of it, and is not asked again.
    ///
    /// # Errors
    /// In words, for a log.
    pub async fn ask(
        &mut self,
        addresses: &[SocketAddr],
        round: usize,
        patience: Duration,
        ask: &Ask,
    ) -> Result<Answer, String> {
        let until = Instant::now() + patience;
        if let Some(kept) = self.connection.take_if(|kept| kept.is_ready()) {
            match tokio::time::timeout_at(until, self.over(kept, ask)).await {
                Ok(Ok(answer)) => return Ok(answer),
                // It was closed meanwhile.
                Ok(Err(_)) => {}
                Err(_) => return Err(silent("the kept connection", patience)),
            }
        }
        let mut result = Err("no address".to_owned());
        for (address, share) in shares(addresses, round, until) {
            result = match tokio::time::timeout(share, self.fresh(address, ask)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Err(format!("{address}: {}", in_full(&*error))),
                Err(_) => Err(silent(address, share)),
            };
        }
        result
    }

    /// Whether one of the addresses can be spoken to: a connection, and its TLS handshake if there is one.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn reaches(
        &self,
        addresses: &[SocketAddr],
        round: usize,
        patience: Duration,
    ) -> Result<(), String> {
        let mut result = Err("no address".to_owned());
        for (address, share) in shares(addresses, round, Instant::now() + patience) {
            result = match tokio::time::timeout(share, self.reach(address)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => Err(format!("{address}: {}", in_full(&*error))),
                Err(_) => Err(silent(address, share)),
            };
        }
        result
    }

    async fn reach(&self, address: SocketAddr) -> Result<(), Failure> {
        let stream = TcpStream::connect(address).await?;
        if let Some(tls) = &self.endpoint.tls {
            let connector = TlsConnector::from(tls.config.clone());
            connector.connect(tls.server_name.clone(), stream).await?;
        }
        Ok(())
    }

    async fn fresh(&mut self, address: SocketAddr, ask: &Ask) -> Result<Answer, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let sender = match &self.endpoint.tls {
            None => begin(stream).await?,
            Some(tls) => {
                let connector = TlsConnector::from(tls.config.clone());
                begin(connector.connect(tls.server_name.clone(), stream).await?).await?
            }
        };
        self.over(sender, ask).await
    }

    async fn over(
        &mut self,
        mut sender: SendRequest<Full<Bytes>>,
        ask: &Ask,
    ) -> Result<Answer, Failure> {
        let answer = sender.send_request(self.request(ask)?).await?;
        let status = answer.status().as_u16();
        if ask.answer_bytes_max == 0 {
            return Ok(Answer { status, body: Vec::new() });
        }
        let body = Limited::new(answer.into_body(), ask.answer_bytes_max).collect().await?;
        self.connection = Some(sender);
        Ok(Answer { status, body: body.to_bytes().into() })
    }

    fn request(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, Failure> {
        let endpoint = &self.endpoint;
        let mut request = Request::builder()
            .method(if ask.body.is_some() { "POST" } else { "GET" })
            .uri(&*ask.path)
            .header(header::HOST, &*endpoint.host_header)
            .header(header::ACCEPT, "*/*")
            .header(header::USER_AGENT, "sluice-control");
        if ask.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &endpoint.api_key {
            request = match endpoint.engine {
                Engine::Anthropic => request.header("x-api-key", key.expose()),
                _ => request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose())),
            };
        }
        for (name, value) in &endpoint.headers {
            request = request.header(&**name, value.expose());
        }
        Ok(request.body(Full::from(ask.body.clone().unwrap_or_default()))?)
    }
}

/// The addresses to try, beginning with the `round`-th, each with its share of the time until `until`.
fn shares(
    addresses: &[SocketAddr],
    round: usize,
    until: Instant,
) -> impl Iterator<Item = (SocketAddr, Duration)> {
    let tries = addresses.len().min(ADDRESSES_MAX);
    let share = until.saturating_duration_since(Instant::now()) / tries.max(1) as u32;
    (0..tries).map(move |at| (addresses[round.wrapping_add(at) % addresses.len()], share))
}

fn silent(who: impl std::fmt::Display, after: Duration) -> String {
    format!("{who}: no answer within {} ms", after.as_millis())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Speaks HTTP on a stream. The connection's own task ends with the stream.
async fn begin<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Failure>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // What went wrong, the one who asked hears too.
        let _ = connection.await;
    });
    Ok(sender)
}

/// An error with its causes: hyper's own sentence says little.
fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
