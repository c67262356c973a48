//! The storages and transports that are built in, each behind a feature of its name.
//!
//! What is not is refused, with the name of its feature, before anything is touched.

use std::sync::Arc;

use paxos_core::port::{Storage, Transport};

use super::{
    ServerError,
    config::{ConfigError, PeerTls, PeerTransport, ServerConfig, StorageKind},
};

pub(super) use files::{has_log, make_directory, open_log};

#[cfg(not(any(feature = "tcp", feature = "quic")))]
compile_error!("members need a transport: enable feature `tcp` or `quic` of paxos-kv");

#[cfg(not(any(feature = "redb", feature = "memory")))]
compile_error!("members need a storage: enable feature `redb` or `memory` of paxos-kv");

/// Whether all that a member needs is built in.
pub(super) fn check(config: &ServerConfig) -> Result<(), ConfigError> {
    let (storage, has_storage) = match config.storage {
        StorageKind::Redb => (REDB, cfg!(feature = "redb")),
        StorageKind::Memory => (MEMORY, cfg!(feature = "memory")),
    };
    let (transport, has_transport) = match config.peer_transport {
        PeerTransport::Tcp | PeerTransport::TcpTls(_) => (TCP, cfg!(feature = "tcp")),
        PeerTransport::Quic(_) => (QUIC, cfg!(feature = "quic")),
    };
    match (has_storage, has_transport) {
        (false, _) => Err(storage.missing()),
        (_, false) => Err(transport.missing()),
        (true, true) => Ok(()),
    }
}

/// Something that may be built in.
#[derive(Clone, Copy)]
struct Backend {
    feature: &'static str,
    /// What asks for it.
    asked_for_by: &'static str,
}

const REDB: Backend =
    Backend { feature: "redb", asked_for_by: "a data directory (--storage redb)" };
const MEMORY: Backend = Backend { feature: "memory", asked_for_by: "--storage memory" };
const TCP: Backend = Backend { feature: "tcp", asked_for_by: "an http:// or https:// peer URL" };
const QUIC: Backend = Backend { feature: "quic", asked_for_by: "a quic:// peer URL" };

impl Backend {
    fn missing(self) -> ConfigError {
        ConfigError::NotBuiltIn { asked_for_by: self.asked_for_by, feature: self.feature }
    }
}

/// Logs in directories.
#[cfg(feature = "redb")]
mod files {
    use std::{path::Path, sync::Arc};

    use paxos_core::port::Storage;
    use paxos_storage::{RedbStorage, create_directory};

    use super::ServerError;

    /// Whether a node has ever been started on a directory.
    pub(in super::super) fn has_log(directory: &Path) -> Result<bool, ServerError> {
        Ok(RedbStorage::has_log(directory)?)
    }

    /// The log in a directory, which is locked.
    pub(in super::super) fn open_log(directory: &Path) -> Result<Arc<dyn Storage>, ServerError> {
        Ok(Arc::new(RedbStorage::open(directory)?))
    }

    /// Makes a directory that only its owner can read, and whose name is on the disk.
    pub(in super::super) fn make_directory(path: &Path) -> Result<(), ServerError> {
        create_directory(path).map_err(|error| ServerError::DataDirectory {
            path: path.display().to_string(),
            reason: error.to_string(),
        })
    }
}

#[cfg(not(feature = "redb"))]
mod files {
    use std::{path::Path, sync::Arc};

    use paxos_core::port::Storage;

    use super::{REDB, ServerError};

    pub(in super::super) fn has_log(_: &Path) -> Result<bool, ServerError> {
        Err(REDB.missing().into())
    }

    pub(in super::super) fn open_log(_: &Path) -> Result<Arc<dyn Storage>, ServerError> {
        Err(REDB.missing().into())
    }

    pub(in super::super) fn make_directory(_: &Path) -> Result<(), ServerError> {
        Err(REDB.missing().into())
    }
}

/// A log that is gone at the end.
#[cfg(feature = "memory")]
pub(super) fn log_in_memory() -> Result<Arc<dyn Storage>, ServerError> {
    Ok(Arc::new(paxos_storage::MemoryStorage::new()))
}

#[cfg(not(feature = "memory"))]
pub(super) fn log_in_memory() -> Result<Arc<dyn Storage>, ServerError> {
    Err(MEMORY.missing().into())
}

/// What carries the messages between a member and the others.
pub(super) async fn transport(config: &ServerConfig) -> Result<Arc<dyn Transport>, ServerError> {
    let address = config.listen_peer_url.address();
    match &config.peer_transport {
        PeerTransport::Tcp => tcp::bind(config, &address, None).await,
        PeerTransport::TcpTls(peers) => tcp::bind(config, &address, Some(peers)).await,
        PeerTransport::Quic(peers) => quic::bind(config, &address, peers).await,
    }
}

/// Who is who, for messages.
fn names(config: &ServerConfig) -> impl Iterator<Item = (paxos_core::types::NodeId, String)> {
    config.cluster.members().iter().map(|member| (member.id, member.name.clone()))
}

fn tls(peers: &PeerTls) -> Result<paxos_transport::Tls, ServerError> {
    Ok(match peers {
        PeerTls::SelfSigned => paxos_transport::Tls::self_signed()?,
        PeerTls::Mutual { certificate, key, authority } => {
            paxos_transport::Tls::from_pem_files(authority, certificate, key)?
        }
    })
}

#[cfg(feature = "tcp")]
mod tcp {
    use super::*;

    pub(super) async fn bind(
        config: &ServerConfig,
        address: &str,
        peers: Option<&PeerTls>,
    ) -> Result<Arc<dyn Transport>, ServerError> {
        let tls = peers.map(tls).transpose()?;
        let bound = paxos_transport::TcpTransport::bind(address, tls).await?;
        Ok(Arc::new(bound.with_names(names(config))))
    }
}

#[cfg(not(feature = "tcp"))]
mod tcp {
    use super::*;

    pub(super) async fn bind(
        _: &ServerConfig,
        _: &str,
        _: Option<&PeerTls>,
    ) -> Result<Arc<dyn Transport>, ServerError> {
        Err(TCP.missing().into())
    }
}

#[cfg(feature = "quic")]
mod quic {
    use super::*;

    pub(super) async fn bind(
        config: &ServerConfig,
        address: &str,
        peers: &PeerTls,
    ) -> Result<Arc<dyn Transport>, ServerError> {
        let bound = paxos_transport::QuicTransport::bind(address, Some(tls(peers)?)).await?;
        Ok(Arc::new(bound.with_names(names(config))))
    }
}

#[cfg(not(feature = "quic"))]
mod quic {
    use super::*;

    pub(super) async fn bind(
        _: &ServerConfig,
        _: &str,
        _: &PeerTls,
    ) -> Result<Arc<dyn Transport>, ServerError> {
        Err(QUIC.missing().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CI builds every combination; this one has all of them.
    #[test]
    fn what_is_missing_is_named_with_its_feature() {
        for (backend, asked_for_by, feature) in [
            (REDB, "--storage redb", "`redb`"),
            (MEMORY, "--storage memory", "`memory`"),
            (TCP, "http://", "`tcp`"),
            (QUIC, "quic://", "`quic`"),
        ] {
            let text = backend.missing().to_string();
            assert!(text.contains(asked_for_by) && text.contains(feature), "{text}");
        }
    }
}
