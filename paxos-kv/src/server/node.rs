//! Puts a member together: its data directory, log, state, transport and node.

use std::sync::Arc;

use paxos_core::{
    node::Node,
    port::{StateMachine, Storage},
    types::{Membership, Slot},
};

use super::{
    ServerError,
    backends::{self, has_log, make_directory, open_log},
    config::{ServerConfig, StorageKind},
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
        StorageKind::Redb => has_log(&config.log_dir)?,
        StorageKind::Memory => false,
    };
    let Standing { owner, members, has_joined } = standing::find(config, has_log).await?;
    let membership = Membership::new(members)?;
    let (storage, store) = open(config, owner, has_log)?;
    let (reader, monitor) = (store.reader(), store.monitor());
    let transport = backends::transport(config).await?;
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
            Ok((backends::log_in_memory()?, Store::open(Backend::Memory)?))
        }
        StorageKind::Redb => {
            make_directory(&config.data_dir)?;
            make_directory(&config.log_dir)?;
            // The log is locked first: whoever holds it holds the state too.
            let storage = open_log(&config.log_dir)?;
            let file = config.data_dir.join(STATE_FILE);
            let state = file.display().to_string();
            let store = Store::open(Backend::Redb { file, owner })?;
            match store.durable() {
                Some(applied) if applied > Slot::ZERO && !has_log => {
                    let log = config.log_dir.display().to_string();
                    Err(ServerError::LogRemoved { state, log, applied })
                }
                _ => Ok((storage, store)),
            }
        }
    }
}
