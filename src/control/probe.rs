//! One question to one endpoint: do you live?
//!
//! A GET of the health path over a connection of its own, answered with 2xx; where there is no
//! health path, a TCP connect. Only the answer's head is read.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::plan::{Endpoint, Engine};

/// Addresses tried by one probe.
const ADDRESSES_MAX: usize = 4;
const HEAD_BYTES_MAX: usize = 16 * 1_024;
const HEADERS_MAX: usize = 64;

/// Probes addresses in turn, beginning with the `round`-th, until one answers. `patience` is for
/// all of them together. The error is the last address's.
pub async fn probe(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    round: usize,
    patience: Duration,
) -> Result<(), String> {
    let tries = addresses.len().min(ADDRESSES_MAX);
    let mut result = Err("no address".to_owned());
    for offset in 0..tries {
        let address = addresses[round.wrapping_add(offset) % addresses.len()];
        let share = patience / tries as u32;
        result = match tokio::time::timeout(share, ask(endpoint, address)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) => Err(format!("{address}: {e}")),
            Err(_) => Err(format!("{address}: no answer within {} ms", share.as_millis())),
        };
    }
    result
}

async fn ask(endpoint: &Endpoint, address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let Some(path) = &endpoint.health_path else { return Ok(()) };
    stream.set_nodelay(true)?;
    match &endpoint.tls {
        None => get(stream, endpoint, path).await,
        Some(tls) => {
            let connector = TlsConnector::from(tls.config.clone());
            let stream = connector.connect(tls.server_name.clone(), stream).await?;
            get(stream, endpoint, path).await
        }
    }
}

async fn get(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    endpoint: &Endpoint,
    path: &str,
) -> io::Result<()> {
    stream.write_all(&request(endpoint, path)).await?;
    stream.flush().await?;
    let mut head = Vec::with_capacity(1_024);
    loop {
        if let Some(status) = status(&head)? {
            return match status {
                200..=299 => Ok(()),
                _ => Err(io::Error::other(format!("status {status}"))),
            };
        }
        if head.len() >= HEAD_BYTES_MAX {
            return Err(io::Error::other("the head never ends"));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The endpoint's own credentials and headers go along: it may refuse to answer without.
fn request(endpoint: &Endpoint, path: &str) -> Vec<u8> {
    let host = &endpoint.host_header;
    let mut out = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\naccept: */*\r\n\
         user-agent: sluice-probe\r\n"
    );
    let mut header = |name: &str, value: &str| {
        out.push_str(name);
        out.push_str(": ");
        out.push_str(value);
        out.push_str("\r\n");
    };
    if let Some(key) = &endpoint.api_key {
        match endpoint.engine {
            Engine::Anthropic => header("x-api-key", key.expose()),
            _ => header("authorization", &format!("Bearer {}", key.expose())),
        }
    }
    for (name, value) in &endpoint.headers {
        header(name, value.expose());
    }
    out.push_str("\r\n");
    out.into_bytes()
}

/// The final answer's status, as soon as its head is whole.
fn status(mut bytes: &[u8]) -> io::Result<Option<u16>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes).map_err(io::Error::other)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        match response.code {
            Some(100..=199) => bytes = &bytes[length..],
            code => return Ok(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_answers_are_skipped() {
        let whole = b"HTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(status(&whole[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(status(whole).unwrap(), Some(204));
        assert!(status(b"SSH-2.0-OpenSSH\r\n").is_err());
    }
}
