//! Certificates: how they have to look, and how to make them.
//!
//! TCP is plain unless it is given a [`Tls`](crate::Tls); QUIC encrypts in any case, and without one believes anybody.
//! With one, both sides of every connection prove that they belong to the cluster, and which node they are.
//!
//! # How they have to look
//!
//! Every node has three files in PEM format: the certificate of the cluster's **authority**, the same on all; its own
//! **certificate**, signed by that; and its **key**. A node's certificate
//!
//! - names the host under which its peers dial it, as a subjectAltName: `DNS:node-1.example.org` if the membership says
//!   `node-1.example.org:7000`, `IP:10.0.0.1` if it says `10.0.0.1:7000`. A common name counts for nothing;
//! - is fit for **both** sides, since every node dials and is dialled: an extendedKeyUsage, if there is one, has
//!   `serverAuth` and `clientAuth`;
//! - is of X.509 version 3, as every certificate with a subjectAltName is;
//! - may name the node itself, as the URI `urn:paxos:node:1` for the node with the id 1. Then it is for no other. Nodes
//!   that share a host, behind one address or on one machine, can only be told apart so.
//!
//! Use an authority of the cluster's own: whoever has a certificate of it for the host of a node is that node.
//!
//! # With openssl
//!
//! ```sh
//! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
//!     -subj "/CN=the cluster's authority" -keyout authority.key -out authority.pem
//! openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=node 1" \
//!     -keyout node-1.key -out node-1.csr
//! printf '%s\n' 'subjectAltName=DNS:node-1.example.org,URI:urn:paxos:node:1' \
//!     'extendedKeyUsage=serverAuth,clientAuth' > node-1.ext
//! openssl x509 -req -in node-1.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
//!     -days 365 -extfile node-1.ext -out node-1.pem
//! ```
//!
//! # In code
//!
//! The same by rcgen, and two nodes that meet over it:
//!
#![cfg_attr(feature = "tcp", doc = "```")]
#![cfg_attr(not(feature = "tcp"), doc = "```ignore")]
//! use std::{fs, path::Path};
//! use paxos_core::{port::{Event, Transport}, types::{ClusterId, Identity, NodeId, Peer, StoreId}};
//! use paxos_transport::{TcpTransport, Tls};
//! use rcgen::{
//!     BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
//! };
//!
//! /// An authority, whose certificate is in `directory`.
//! fn authority(directory: &Path) -> Result<Issuer<'static, KeyPair>, Box<dyn std::error::Error>> {
//!     let mut authority = CertificateParams::default();
//!     authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
//!     let key = KeyPair::generate()?;
//!     fs::write(directory.join("authority.pem"), authority.self_signed(&key)?.pem())?;
//!     Ok(Issuer::new(authority, key))
//! }
//!
//! /// The certificate of node `id`, which is dialled at `host`.
//! fn certify(
//!     authority: &Issuer<'_, KeyPair>, directory: &Path, id: u64, host: &str,
//! ) -> Result<Tls, Box<dyn std::error::Error>> {
//!     let mut node = CertificateParams::new([host.to_owned()])?;
//!     node.subject_alt_names.push(SanType::URI(format!("urn:paxos:node:{id}").try_into()?));
//!     node.extended_key_usages =
//!         vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
//!     let key = KeyPair::generate()?;
//!     let file = |kind| directory.join(format!("node-{id}.{kind}"));
//!     fs::write(file("pem"), node.signed_by(&key, authority)?.pem())?;
//!     fs::write(file("key"), key.serialize_pem())?;
//!     Ok(Tls::from_pem_files(directory.join("authority.pem"), file("pem"), file("key"))?)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let authority = authority(directory)?;
//! let mut nodes = Vec::new();
//! for id in [1, 2] {
//!     let tls = certify(&authority, directory, id, "127.0.0.1")?;
//!     nodes.push(TcpTransport::bind("127.0.0.1:0", Some(tls)).await?);
//! }
//! // A Node does the rest with the transport that it is given; here it is done by hand.
//! for (node, other) in [(0, 1), (1, 0)] {
//!     let id = |index| NodeId(index as u64 + 1);
//!     let identity = Identity { cluster: ClusterId(1), node: id(node), store: StoreId(1 + node as u64) };
//!     let address = nodes[other].local_addr().to_string();
//!     nodes[node].start(identity, vec![Peer { id: id(other), address, store: None }]).await?;
//! }
//! assert!(matches!(nodes[0].recv().await, Some(Event::Met { peer: NodeId(2), .. })));
//! # for node in nodes { node.close().await; }
//! # Ok(())
//! # }
//! ```
//!
//! # When they change, and when they do not work
//!
//! Files that have changed are read again, for connections made a second later, without a restart; if they cannot be
//! used, a warning says so and those read before are used on. To change the authority, put the old and the new
//! certificate into one file on every node first, then change the nodes' own.
//!
//! A peer that is refused, or refuses, is in `Node::status().refusals` and in the log of both sides, with the reason.
