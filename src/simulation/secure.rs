//! TLS for both of the gateway's sides: one certificate, made from a key that is always the same.
//!
//! A run repeats to the poll: nothing that depends on a random byte changes a length. Ed25519 signatures are
//! as long as each other; those of ECDSA are not.

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::Plan;
use crate::config::plan::EndpointTls;
use crate::http::tls::Tls;

const NAME: &str = "sluice";

/// An Ed25519 key in PKCS #8 (RFC 8410, section 7) around 32 bytes of nothing in particular.
fn key() -> PrivatePkcs8KeyDer<'static> {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend_from_slice(&[7; 32]);
    der.into()
}

/// What both sides need.
#[derive(Clone)]
pub struct Secure {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Secure {
    pub fn new() -> Self {
        let pair = rcgen::KeyPair::try_from(&key()).expect("a key");
        let params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        let certificate = params.self_signed(&pair).expect("signed");
        let chain = vec![certificate.der().clone()];
        let server = ServerConfig::builder().with_no_client_auth();
        let server = server.with_single_cert(chain, PrivateKeyDer::Pkcs8(key())).expect("a pair");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { server: Arc::new(server), client: Arc::new(client) }
    }

    fn name() -> ServerName<'static> {
        NAME.try_into().expect("a name")
    }

    /// A server's side.
    pub fn accepted(&self) -> Tls {
        Tls::server(self.server.clone()).expect("usable")
    }

    /// A client's side.
    pub fn connected(&self) -> Tls {
        Tls::client(self.client.clone(), Self::name()).expect("usable")
    }

    /// The plan with TLS towards clients and towards every endpoint.
    pub fn plan(&self, mut plan: Plan) -> Plan {
        plan.server.tls = Some(self.server.clone());
        for endpoint in &mut plan.endpoints {
            endpoint.tls =
                Some(EndpointTls { config: self.client.clone(), server_name: Self::name() });
        }
        plan
    }
}
