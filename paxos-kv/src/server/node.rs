//! Puts a member together: its data directory, log, state, transport and node.

use std::{path::Path, sync::Arc};

use paxos_core::{
    node::Node,
    port::{StateMachine, Storage, Transport, TransportError},
    types::{Membership, Slot},
};
use paxos_storage::{MemoryStorage, RedbStorage, create_directory};
use paxos_transport::{QuicTransport, TcpTransport, Tls};

use super::{
    ServerError,
    config::{PeerTls, PeerTransport, ServerConfig, StorageKind},
    standing::{self, Standing},
};
use crate::store::{Backend, Monitor, Owner, Reader, Store};

/// The database of the state in the data directory.
pub(super) const STATE_FILE: &str = "state.redb";

/// Starts the node of a member; the other parts read its state and tell how that does.
pub(super) async fn start(
    config: &ServerConfig,
) -> Result<(Node<Store>, Reader, Monitor), ServerError> {
    let has_log = match config.storage {
        StorageKind::Redb => RedbStorage::has_log(&config.log_dir)?,
        StorageKind::Memory => false,
    };
    let Standing { owner, members, has_joined } = standing::find(config, has_log).await?;
    let membership = Membership::new(members)?;
    let (storage, store) = open(config, owner, has_log)?;
    let (reader, monitor) = (store.reader(), store.monitor());
    let transport = transport(config).await?;
    let mut node = Node::builder(owner.member, membership)
        .cluster_id(owner.cluster)
        .storage_arc(storage)
        .transport_arc(transport)
        .request_timeout(config.request_timeout())
        .blocking_state_machine()
        .configure(|replica| {
            replica.heartbeat_interval = config.heartbeat_interval;
            replica.election_timeout = config.election_timeout;
            replica.checkpoint_slots = config.checkpoint_slots;
            replica.checkpoint_bytes = config.checkpoint_bytes;
        });
    if has_joined {
        node = node.joining();
    }
    Ok((node.start(store).await?, reader, monitor))
}

/// Opens log and state, in files of their own so that commits of the one never wait for the other.
fn open(
    config: &ServerConfig,
    owner: Owner,
    has_log: bool,
) -> Result<(Arc<dyn Storage>, Store), ServerError> {
    match config.storage {
        StorageKind::Memory => {
            tracing::warn!("log and state are in memory: this member forgets all at its end");
            Ok((Arc::new(MemoryStorage::new()), Store::open(Backend::Memory)?))
        }
        StorageKind::Redb => {
            make_directory(&config.data_dir)?;
            make_directory(&config.log_dir)?;
            // The log is locked first: whoever holds it holds the state too.
            let storage = RedbStorage::open(&config.log_dir)?;
            let file = config.data_dir.join(STATE_FILE);
            let state = file.display().to_string();
            let store = Store::open(Backend::Redb { file, owner })?;
            match store.durable() {
                Some(applied) if applied > Slot::ZERO && !has_log => {
                    let log = config.log_dir.display().to_string();
                    Err(ServerError::LogRemoved { state, log, applied })
                }
                _ => Ok((Arc::new(storage), store)),
            }
        }
    }
}

/// Makes a directory that only its owner can read, and whose name is on the disk.
pub(super) fn make_directory(path: &Path) -> Result<(), ServerError> {
    create_directory(path).map_err(|error| ServerError::DataDirectory {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

async fn transport(config: &ServerConfig) -> Result<Arc<dyn Transport>, ServerError> {
    let address = config.listen_peer_url.address();
    let members = config.cluster.members().iter();
    let names = members.map(|member| (member.id, member.name.clone()));
    Ok(match &config.peer_transport {
        PeerTransport::Tcp => Arc::new(TcpTransport::bind(&address, None).await?.with_names(names)),
        PeerTransport::TcpTls(peers) => {
            Arc::new(TcpTransport::bind(&address, tls(peers)?).await?.with_names(names))
        }
        PeerTransport::Quic(peers) => {
            Arc::new(QuicTransport::bind(&address, tls(peers)?).await?.with_names(names))
        }
    })
}

fn tls(peers: &PeerTls) -> Result<Tls, TransportError> {
    match peers {
        PeerTls::SelfSigned => Tls::self_signed(),
        PeerTls::Mutual { certificate, key, authority } => {
            Tls::from_pem_files(authority, certificate, key)
        }
    }
}
