//! What a cluster is built from, chosen at run time among what was compiled in.

use std::{fmt, path::Path, sync::Arc};

use clap::ValueEnum;
use paxos_core::port::{Storage, StorageError, Transport, TransportError};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryNetwork;

use serde::Serialize;

/// How the nodes of a cluster reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TransportKind {
    /// Within the process: no socket, no encoding.
    Memory,
    /// TCP over loopback, not encrypted.
    #[cfg(feature = "tcp")]
    Tcp,
    /// QUIC over loopback, encrypted with self-signed certificates.
    #[cfg(feature = "quic")]
    Quic,
}

impl TransportKind {
    /// Every one that was compiled in.
    pub const ALL: &[TransportKind] = &[
        TransportKind::Memory,
        #[cfg(feature = "tcp")]
        TransportKind::Tcp,
        #[cfg(feature = "quic")]
        TransportKind::Quic,
    ];

    /// Whether it reaches other processes.
    pub(crate) fn leaves_the_process(self) -> bool {
        self != TransportKind::Memory
    }

    /// A transport for node `id`, on this network if it is one in memory, and the address where
    /// the others reach it.
    pub(crate) async fn bind(
        self,
        id: u64,
        network: &MemoryNetwork,
    ) -> Result<(String, Arc<dyn Transport>), TransportError> {
        match self {
            TransportKind::Memory => {
                let address = format!("node-{id}");
                Ok((address.clone(), Arc::new(network.bind(address))))
            }
            #[cfg(feature = "tcp")]
            TransportKind::Tcp => {
                let transport = paxos_transport::TcpTransport::bind(LOOPBACK, None).await?;
                Ok((transport.local_addr().to_string(), Arc::new(transport)))
            }
            #[cfg(feature = "quic")]
            TransportKind::Quic => {
                let transport = paxos_transport::QuicTransport::bind(LOOPBACK, None).await?;
                Ok((transport.local_addr().to_string(), Arc::new(transport)))
            }
        }
    }
}

/// Any free port.
#[cfg(any(feature = "tcp", feature = "quic"))]
const LOOPBACK: &str = "127.0.0.1:0";

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransportKind::Memory => "memory",
            #[cfg(feature = "tcp")]
            TransportKind::Tcp => "tcp",
            #[cfg(feature = "quic")]
            TransportKind::Quic => "quic",
        })
    }
}

/// Where the nodes of a cluster keep their logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// Nowhere that would survive the process.
    Memory,
    /// On disk, every write synced before it counts.
    #[cfg(feature = "redb")]
    Redb,
}

impl StorageKind {
    /// Every one that was compiled in.
    pub const ALL: &[StorageKind] = &[
        StorageKind::Memory,
        #[cfg(feature = "redb")]
        StorageKind::Redb,
    ];

    /// An empty storage for node `id`, below `directory` if it needs one.
    #[cfg_attr(not(feature = "redb"), expect(unused_variables, reason = "memory has no files"))]
    pub(crate) fn open(self, directory: &Path, id: u64) -> Result<Arc<dyn Storage>, StorageError> {
        match self {
            StorageKind::Memory => Ok(Arc::new(MemoryStorage::new())),
            #[cfg(feature = "redb")]
            StorageKind::Redb => {
                let directory = directory.join(format!("node-{id}"));
                Ok(Arc::new(paxos_storage::RedbStorage::open(directory)?))
            }
        }
    }
}

impl fmt::Display for StorageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StorageKind::Memory => "memory",
            #[cfg(feature = "redb")]
            StorageKind::Redb => "redb",
        })
    }
}
