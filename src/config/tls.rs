//! TLS material: the listener's certificate, and whom endpoints are verified against.
//!
//! Verification of endpoints cannot be turned off. Both sides speak TLS 1.2 and 1.3 and offer
//! HTTP/1.1 alone in ALPN.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::reader::{At, Section};
use super::reference;

/// Certificate chains and CA bundles; a full set of public roots is about 300 KiB.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is wrong with some PEM, and the remedy.
type Refusal = (String, &'static str);

/// The listener's TLS, and the files of its certificate and key.
type Listening = (Arc<ServerConfig>, (PathBuf, PathBuf));

/// `[server.tls]`, if the table is there.
pub fn read_server(section: &Section<'_>, present: bool) -> Option<Listening> {
    if !present {
        // Asked for all the same, so that the schema is whole.
        section.text("certificate_file", "");
        section.text("key_file", "");
        return None;
    }
    let certificate = section.required("certificate_file", "/etc/sluice/tls.crt");
    let key = section.required("key_file", "/etc/sluice/tls.key");
    let load = |name, path| reference::file(section.reader, name, path, PEM_BYTES_MAX);
    let chain = certificate.and_then(|path| load("certificate_file", path));
    let private = key.and_then(|path| load("key_file", path));
    let ((chain_path, chain), (key_path, private)) = chain.zip(private)?;
    let config = server_config(section, (certificate?, &chain), (key?, &private))?;
    Some((config, (chain_path, key_path)))
}

fn server_config(
    section: &Section<'_>,
    (chain_from, chain): (At<&str>, &[u8]),
    (key_from, key): (At<&str>, &[u8]),
) -> Option<Arc<ServerConfig>> {
    let chain = certificates(chain).map_err(|(what, fix)| {
        section.fault(
            chain_from.at,
            format!("`certificate_file` ({}) {what}", chain_from.value),
            fix,
        );
    });
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        let what = format!("`key_file` ({}) holds no private key in PEM form", key_from.value);
        section.fault(
            key_from.at,
            what,
            "name the key's file (PKCS#8, PKCS#1 or SEC1, not encrypted)",
        );
    });
    build_server(chain.ok()?, key.ok()?)
        .map_err(|e| {
            let what = format!("certificate and key cannot be used ({e})");
            section.fault(key_from.at, what, "name the key that belongs to the certificate");
        })
        .ok()
}

fn build_server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Tickets keep resumption state with the client: no shared session table between shards.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// Every certificate of a PEM text; at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let fix = "name a PEM file with -----BEGIN CERTIFICATE----- blocks";
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(("holds no certificate".to_owned(), fix)),
        Ok(all) => Ok(all),
        Err(e) => Err((format!("is not valid PEM ({e})"), fix)),
    }
}

/// A client configuration that trusts exactly the certificates in `ca_pem`.
pub fn client_of(ca_pem: &[u8]) -> Result<Arc<ClientConfig>, Refusal> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        let bad = |e| (format!("holds a certificate that cannot be a root ({e})"), "remove it");
        roots.add(certificate).map_err(bad)?;
    }
    client(roots)
}

/// A client configuration that trusts the system's roots. They are loaded once, when the first
/// `https` endpoint asks; all plans share it and so its resumption memory.
pub fn client_of_system() -> Result<Arc<ClientConfig>, Refusal> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = SYSTEM.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    // One unreadable certificate among hundreds is no reason to trust none of them.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let what = "needs system root certificates, and there are none".to_owned();
        return Err((what, "install the ca-certificates package or set `ca_file`"));
    }
    let config = client(roots)?;
    Ok(Arc::clone(SYSTEM.get_or_init(|| config)))
}

fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, Refusal> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| (format!("cannot be set up for TLS ({e})"), "report this"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Reads a CA bundle that an endpoint names: its bytes too, which are part of its identity.
pub fn read_ca(section: &Section<'_>, path: At<&str>) -> Option<(Arc<ClientConfig>, Vec<u8>)> {
    let (_, pem) = reference::file(section.reader, "ca_file", path, PEM_BYTES_MAX)?;
    match client_of(&pem) {
        Ok(config) => Some((config, pem)),
        Err((what, fix)) => {
            section.fault(path.at, format!("`ca_file` ({}) {what}", path.value), fix);
            None
        }
    }
}
