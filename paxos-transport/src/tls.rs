//! Certificates: who a node is to its peers.
//!
//! With certificates of the cluster's own authority, both sides of every connection prove that
//! they belong to it. Without any, a node makes a certificate of its own at every start: nobody
//! can listen in on the connection, but anybody can make one.

use std::{path::Path, sync::Arc};

use paxos_core::port::TransportError;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject,
};

/// What both sides say they speak. The version is not part of it: another one is refused in the
/// handshake, in words.
const PROTOCOL_NAME: &[u8] = b"paxos";

/// The certificates of a node, for [`TcpTransport`](crate::TcpTransport) and
/// [`QuicTransport`](crate::QuicTransport). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    authenticated: bool,
}

impl Tls {
    /// Mutual TLS from three PEM files: the authority that has signed every node's certificate,
    /// this node's certificate (with intermediate ones behind it, if there are any), and its
    /// private key. A certificate has to name the host, as a DNS name or an IP address, under
    /// which the peers dial its node.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, holds something else, or the key is not the certificate's.
    pub fn from_pem_files(
        authority: impl AsRef<Path>,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Tls, TransportError> {
        let (authority, certificate, key) =
            (authority.as_ref(), certificate.as_ref(), key.as_ref());
        let mut roots = RootCertStore::empty();
        for root in certificates(authority)? {
            roots.add(root).map_err(|error| unusable(authority, &error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate)?;
        let private_key =
            PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
        let provider = Arc::new(ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| unusable(authority, &error))?;
        let mismatch = |error: rustls::Error| {
            TransportError::Tls(format!(
                "the key in {} does not work with the certificate in {}: {error}; give the two \
                 files that were made together",
                key.display(),
                certificate.display()
            ))
        };
        let server = server_builder(&provider)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), private_key.clone_key())
            .map_err(mismatch)?;
        let client = client_builder(&provider)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private_key)
            .map_err(mismatch)?;
        Ok(Tls::new(server, client, true))
    }

    /// Encryption without authentication, by a certificate made now.
    ///
    /// # Errors
    ///
    /// If no certificate can be made.
    pub fn self_signed() -> Result<Tls, TransportError> {
        let own = rcgen::generate_simple_self_signed(vec!["paxos".to_owned()])
            .map_err(|error| TransportError::Tls(format!("cannot make a certificate: {error}")))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let provider = Arc::new(ring::default_provider());
        let server = server_builder(&provider)?
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.into()], key)
            .map_err(|error| TransportError::Tls(error.to_string()))?;
        let client = client_builder(&provider)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Tls::new(server, client, false))
    }

    fn new(mut server: ServerConfig, mut client: ClientConfig, authenticated: bool) -> Tls {
        server.alpn_protocols = vec![PROTOCOL_NAME.to_vec()];
        client.alpn_protocols = vec![PROTOCOL_NAME.to_vec()];
        Tls { server: Arc::new(server), client: Arc::new(client), authenticated }
    }

    pub(crate) fn warn_if_not_authenticated(&self) {
        if !self.authenticated {
            tracing::warn!(
                "peers are encrypted, not authenticated: give every node a certificate of the \
                 cluster's authority, or let only the nodes reach the peer port"
            );
        }
    }

    #[cfg(feature = "quic")]
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    #[cfg(feature = "quic")]
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    #[cfg(feature = "tcp")]
    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.server.clone().into()
    }

    #[cfg(feature = "tcp")]
    pub(crate) fn connector(&self) -> tokio_rustls::TlsConnector {
        self.client.clone().into()
    }

    /// `host` as a name that a certificate may hold.
    #[cfg(feature = "tcp")]
    pub(crate) fn server_name(&self, host: &str) -> std::io::Result<ServerName<'static>> {
        ServerName::try_from(host.to_owned()).map_err(|_| {
            let reason = format!("{host:?} is no name that a certificate can hold");
            std::io::Error::other(rustls::Error::General(reason))
        })
    }
}

/// TLS 1.3 alone: both sides are this crate.
fn server_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TransportError> {
    ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TransportError::Tls(error.to_string()))
}

fn client_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TransportError> {
    ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TransportError::Tls(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &"no certificate in it"));
    }
    Ok(found)
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> TransportError {
    TransportError::Tls(format!(
        "{} cannot be used: {reason}; give a file in PEM format that this process may read",
        path.display()
    ))
}

/// Believes every certificate, and checks only that the other side has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
