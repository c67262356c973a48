//! Certificates in files, read again when these change.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use paxos_core::port::TransportError;
use rustls::{RootCertStore, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use webpki::EndEntityCert;

use super::{Configs, client_builder, server_builder};

/// Where the certificates of a node are, in PEM format.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What tells that the files are others: when each was written, its length and its number.
pub(super) type Stamps = [Option<(SystemTime, u64, u64)>; 3];

impl Files {
    /// As the files are now. Whoever reads them after asking reads these or newer ones.
    pub(super) fn stamps(&self) -> Stamps {
        [&self.authority, &self.certificate, &self.key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), number(&metadata)))
        })
    }

    pub(super) fn load(&self) -> Result<Configs, TransportError> {
        let Files { authority, certificate, key } = self;
        let mut roots = RootCertStore::empty();
        for root in certificates(authority)? {
            roots.add(root).map_err(|error| unusable(authority, &error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate)?;
        check_version(certificate, &chain)?;
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
        Ok(Configs::new(server, client))
    }
}

#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_: &fs::Metadata) -> u64 {
    0
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &"no certificate in it"));
    }
    Ok(found)
}

/// One of version 1 has no place for the names that it has to hold. Command lines make such by accident.
fn check_version(path: &Path, chain: &[CertificateDer<'_>]) -> Result<(), TransportError> {
    for certificate in chain {
        if let Err(webpki::Error::UnsupportedCertVersion) = EndEntityCert::try_from(certificate) {
            return Err(TransportError::Tls(format!(
                "{} holds a certificate of another X.509 version than 3: make one of version 3, which names \
                 the host of the node's address (openssl does so when it is given extensions, such as \
                 -addext or -extfile with subjectAltName=DNS:… or IP:…)",
                path.display()
            )));
        }
    }
    Ok(())
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> TransportError {
    TransportError::Tls(format!(
        "{} cannot be used: {reason}; give a file in PEM format that this process may read",
        path.display()
    ))
}
