//! A membership as the value of a slot.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::{Membership, ValueError, value::TAG_CHANGE};

/// A membership that a slot decides on, with its encoding.
#[derive(Clone, PartialEq, Eq)]
pub struct Reconfiguration(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    membership: Arc<Membership>,
    encoded: Bytes,
    digest: u64,
}

impl Reconfiguration {
    /// Of a membership with which a cluster can work.
    #[must_use]
    pub fn new(membership: Arc<Membership>) -> Reconfiguration {
        let encoded = postcard::to_extend(&*membership, vec![TAG_CHANGE]);
        let encoded = Bytes::from(encoded.expect("plain data encodes"));
        let digest = xxh3_64(&encoded);
        Reconfiguration(Arc::new(Parts { membership, encoded, digest }))
    }

    /// What `encoded` holds.
    pub(super) fn decode(encoded: Bytes) -> Result<Reconfiguration, ValueError> {
        let membership: Membership =
            postcard::from_bytes(&encoded[1..]).map_err(|_| ValueError::Membership)?;
        membership.check().map_err(|_| ValueError::Membership)?;
        let made = Reconfiguration::new(Arc::new(membership));
        // There is one encoding of each: whoever compares hashes compares what is meant.
        if made.0.encoded == encoded { Ok(made) } else { Err(ValueError::Membership) }
    }

    /// The membership.
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        &self.0.membership
    }

    pub(super) fn encoded(&self) -> &Bytes {
        &self.0.encoded
    }

    pub(super) fn digest(&self) -> u64 {
        self.0.digest
    }

    /// Some times its encoding: the texts and the nodes of its maps.
    pub(super) fn memory_len(&self) -> usize {
        size_of::<Parts>() + 8 * self.0.encoded.len()
    }
}

impl fmt::Debug for Reconfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.membership.fmt(f)
    }
}
