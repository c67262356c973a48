//! Certificates: who a node is to its peers.
//!
//! With certificates of the cluster's own authority, both sides of every connection prove that
//! they belong to it, and which node they are (`names`). They are read again when the files change
//! (`files`). Without any, a node makes a certificate of its own at every start: nobody
//! can listen in on the connection, but anybody can make one.

mod failure;
mod files;
mod names;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use paxos_core::port::TransportError;
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

#[cfg(feature = "tcp")]
pub(crate) use failure::alert_of;
pub(crate) use failure::remedy;
use files::{Files, Stamps};
pub(crate) use names::check_names;

/// How often the files are looked at, when there are new connections.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What both sides say they speak. The version is not part of it: another one is refused in the
/// handshake, in words.
const PROTOCOL_NAME: &[u8] = b"paxos";

/// The certificates of a node, for [`TcpTransport`](crate::TcpTransport) and
/// [`QuicTransport`](crate::QuicTransport). Cheap to clone; clones share what they have read.
#[derive(Clone, Debug)]
pub struct Tls {
    /// `None`: made at the start, and nobody is authenticated.
    files: Option<Arc<Files>>,
    current: Arc<Mutex<Current>>,
}

#[derive(Debug)]
struct Current {
    configs: Arc<Configs>,
    /// What they were read from.
    stamps: Stamps,
    looked: Instant,
    /// Why what is there now cannot be used, as it was told last.
    failure: Option<TransportError>,
}

/// What new connections are made with.
#[derive(Debug)]
pub(crate) struct Configs {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Configs {
    fn new(mut server: ServerConfig, mut client: ClientConfig) -> Configs {
        server.alpn_protocols = vec![PROTOCOL_NAME.to_vec()];
        client.alpn_protocols = vec![PROTOCOL_NAME.to_vec()];
        Configs { server: Arc::new(server), client: Arc::new(client) }
    }
}

impl Tls {
    /// Mutual TLS from three PEM files: the authority that has signed every node's certificate,
    /// this node's certificate (with intermediate ones behind it, if there are any), and its
    /// private key.
    ///
    /// A certificate has to name the host, as a DNS name or an IP address, under which the peers dial its
    /// node (subjectAltName), be fit for servers and clients (extendedKeyUsage, if it is restricted), and be
    /// of X.509 version 3. Whoever shows it is believed to be a node that is dialled at such a host. To tell
    /// nodes apart that share a host, it names the node as well: the URI `urn:paxos:node:7` for the node
    /// with the id 7, or `urn:paxos:name:a` for that of the name *a*; then it is for no other.
    ///
    /// The files are read again when they have changed, for connections made a second later. If they
    /// cannot be used then, a warning says so, and those read before are used on.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, holds something else, or the key is not the certificate's.
    pub fn from_pem_files(
        authority: impl AsRef<Path>,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Tls, TransportError> {
        let files = Files {
            authority: authority.as_ref().to_owned(),
            certificate: certificate.as_ref().to_owned(),
            key: key.as_ref().to_owned(),
        };
        let stamps = files.stamps();
        let configs = files.load()?;
        Ok(Tls::new(Some(files), stamps, configs))
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
        Ok(Tls::new(None, Stamps::default(), Configs::new(server, client)))
    }

    fn new(files: Option<Files>, stamps: Stamps, configs: Configs) -> Tls {
        let (configs, looked) = (Arc::new(configs), Instant::now());
        let current = Current { configs, stamps, looked, failure: None };
        Tls { files: files.map(Arc::new), current: Arc::new(Mutex::new(current)) }
    }

    /// Whether certificates say who somebody is.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.files.is_some()
    }

    pub(crate) fn warn_if_not_authenticated(&self) {
        if !self.is_authenticated() {
            tracing::warn!(
                "peers are encrypted, not authenticated: give every node a certificate of the \
                 cluster's authority, or let only the nodes reach the peer port"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read last.
    pub(crate) fn last(&self) -> Arc<Configs> {
        self.lock().configs.clone()
    }

    /// What is to be used for a new connection. Looks whether the files have changed, now and then.
    pub(crate) async fn current(&self) -> Arc<Configs> {
        if let Some(files) = &self.files
            && self.is_due()
        {
            let (tls, files) = (self.clone(), files.clone());
            // If it panics, or the runtime ends, what was read last will do.
            let _ = tokio::task::spawn_blocking(move || tls.look(&files)).await;
        }
        self.last()
    }

    fn is_due(&self) -> bool {
        let mut current = self.lock();
        let is_due = current.looked.elapsed() >= LOOK_INTERVAL;
        if is_due {
            current.looked = Instant::now();
        }
        is_due
    }

    /// Reads the files again if they have changed.
    fn look(&self, files: &Files) {
        // Before they are read: what is written meanwhile is noticed the next time.
        let stamps = files.stamps();
        if stamps == self.lock().stamps {
            return;
        }
        let loaded = files.load();
        let mut current = self.lock();
        match loaded {
            Ok(configs) => {
                tracing::info!(certificate = %files.certificate.display(), "read certificates again");
                (current.configs, current.stamps) = (Arc::new(configs), stamps);
                current.failure = None;
            }
            Err(error) if current.failure.as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the certificates have changed, and those read before are used on");
                current.failure = Some(error);
            }
        }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_cannot_be_used_changes_nothing_until_it_can_be_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let write = || {
            let made = rcgen::generate_simple_self_signed(vec!["h".to_owned()]).expect("signs");
            fs::write(path("node.pem"), made.cert.pem()).expect("writes");
            made
        };
        let first = write();
        fs::write(path("node.key"), first.signing_key.serialize_pem()).expect("writes");
        let files = [path("node.pem"), path("node.pem"), path("node.key")];
        let tls = Tls::from_pem_files(&files[0], &files[1], &files[2]).expect("good files");
        let files = tls.files.clone().expect("from files");
        let before = tls.last();
        tls.look(&files);
        assert!(Arc::ptr_eq(&before, &tls.last()), "nothing has changed");
        let second = write();
        tls.look(&files);
        assert!(Arc::ptr_eq(&before, &tls.last()), "the key is that of the first");
        assert!(tls.lock().failure.is_some());
        fs::write(path("node.key"), second.signing_key.serialize_pem()).expect("writes");
        tls.look(&files);
        assert!(!Arc::ptr_eq(&before, &tls.last()), "now they belong together");
        assert_eq!(tls.lock().failure, None);
    }
}
