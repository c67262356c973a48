//! A client within the process of its member: no socket, and otherwise what a client elsewhere has.
//!
//! - [`Client`] reads and writes keys. What it says and hears are the messages of [`proto`](crate::proto).
//! - [`Local`] carries any generated client of etcd's services to the member, `ClusterClient::new(server.local())`
//!   for instance.
//!
//! Both are cheap to clone, and work on every member, leader or not. They go on while the server of the member
//! does: after [`shutdown`](crate::Server::shutdown) they answer `etcdserver: server stopped`. A server that is
//! dropped instead keeps its node running for them until the last one is dropped too.

use std::{
    convert::Infallible,
    fmt,
    task::{Context, Poll},
};

use axum::{Router, body, routing::future::RouteFuture};
use bytes::Bytes;
use tonic::Status;
use tower::Service;

use crate::proto::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, PutResponse,
        RangeRequest, RangeResponse, TxnRequest, TxnResponse, kv_client::KvClient,
    },
    mvccpb::KeyValue,
};

/// Carries requests of generated clients to a member in this process.
#[derive(Clone)]
pub struct Local {
    routes: Router,
}

impl Local {
    pub(crate) fn new(routes: Router) -> Local {
        Local { routes }
    }
}

impl Service<http::Request<tonic::body::Body>> for Local {
    type Response = http::Response<body::Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        self.routes.call(request)
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

/// Which keys.
///
/// ```
/// use paxos_kv::Keys;
///
/// assert_eq!(Keys::prefix("k"), Keys::between("k", "l"));
/// assert_eq!(Keys::prefix(""), Keys::all());
/// assert_eq!(Keys::from("k"), Keys::one("k"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub(crate) first: Bytes,
    /// Empty for the first alone.
    pub(crate) end: Bytes,
}

/// Stands for no end, and as the first key for the lowest there may be.
const NO_END: Bytes = Bytes::from_static(b"\0");

impl Keys {
    /// This one.
    pub fn one(key: impl Into<Bytes>) -> Keys {
        Keys { first: key.into(), end: Bytes::new() }
    }

    /// All.
    #[must_use]
    pub fn all() -> Keys {
        Keys { first: NO_END, end: NO_END }
    }

    /// Those that begin so.
    pub fn prefix(prefix: impl Into<Bytes>) -> Keys {
        let first = prefix.into();
        if first.is_empty() {
            return Keys::all();
        }
        let end = match first.iter().rposition(|&byte| byte < 0xff) {
            Some(last) => {
                let mut end = first[..=last].to_vec();
                end[last] += 1;
                end.into()
            }
            None => NO_END,
        };
        Keys { first, end }
    }

    /// This one and all above.
    pub fn from_key(first: impl Into<Bytes>) -> Keys {
        let first = first.into();
        if first.is_empty() { Keys::all() } else { Keys { first, end: NO_END } }
    }

    /// From the first on, below the end.
    pub fn between(first: impl Into<Bytes>, end: impl Into<Bytes>) -> Keys {
        Keys { first: first.into(), end: end.into() }
    }
}

impl<K: Into<Bytes>> From<K> for Keys {
    fn from(key: K) -> Keys {
        Keys::one(key)
    }
}

impl From<Keys> for RangeRequest {
    fn from(Keys { first, end }: Keys) -> RangeRequest {
        RangeRequest { key: first, range_end: end, ..RangeRequest::default() }
    }
}

/// Reads and writes keys by the member that it comes from ([`Server::client`](crate::Server::client)).
///
/// Every method ends with the status that a client elsewhere would be told, in etcd's codes and words. A write whose
/// status is `Unavailable` may have had its effect; one whose future is dropped, too.
#[derive(Clone, Debug)]
pub struct Client {
    kv: KvClient<Local>,
}

impl Client {
    pub(crate) fn new(local: Local) -> Client {
        let kv = KvClient::new(local);
        // The server has limits of its own.
        Client { kv: kv.max_decoding_message_size(usize::MAX) }
    }

    /// Writes a key.
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutResponse, Status> {
        let put = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
        Ok(self.kv.clone().put(put).await?.into_inner())
    }

    /// The key as it is now, if it is there.
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, Status> {
        Ok(self.range(Keys::one(key)).await?.kvs.pop())
    }

    /// Several keys: [`Keys`] as they are now, or whatever a [`RangeRequest`] says (a limit, an earlier revision, an
    /// order).
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn range(&self, request: impl Into<RangeRequest>) -> Result<RangeResponse, Status> {
        Ok(self.kv.clone().range(request.into()).await?.into_inner())
    }

    /// Deletes keys; returns how many there were.
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn delete(&self, keys: impl Into<Keys>) -> Result<i64, Status> {
        let Keys { first, end } = keys.into();
        let delete = DeleteRangeRequest { key: first, range_end: end, prev_kv: false };
        Ok(self.kv.clone().delete_range(delete).await?.into_inner().deleted)
    }

    /// Compares, then does one of two lists of operations, all at once.
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        Ok(self.kv.clone().txn(request).await?.into_inner())
    }

    /// Forgets what is older than this revision: it cannot be read any more.
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn compact(&self, revision: i64) -> Result<CompactionResponse, Status> {
        let request = CompactionRequest { revision, physical: false };
        Ok(self.kv.clone().compact(request).await?.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_carries_over_the_highest_bytes() {
        assert_eq!(Keys::prefix(&b"a\xff\xff"[..]), Keys::between(&b"a\xff\xff"[..], "b"));
        assert_eq!(Keys::prefix(&b"\xff"[..]), Keys::from_key(&b"\xff"[..]));
        assert_eq!(Keys::from_key(""), Keys::all());
    }
}
