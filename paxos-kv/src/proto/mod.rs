//! The messages and services of the etcd v3 API that this server implements, and the commands it
//! replicates, generated from `proto/*.proto`.
//!
//! Packages, services, names and numbers are etcd's, so every etcd client understands them. A
//! method that is not declared here is answered `UNIMPLEMENTED` by itself.

#![allow(
    missing_docs,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated; documented in proto/*.proto"
)]

/// Keys and their revisions.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// The services, their requests and their responses.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The encoding of replicated commands.
pub(crate) mod paxoskv {
    #![allow(unreachable_pub, reason = "what is generated is public")]
    tonic::include_proto!("paxoskv");
}
