//! Retry: whoever does not know whether it was done, and asks again.
//!
//! A node sends a command again by itself, through changes of leader, and it has effect once. What is left is
//! [`UnknownOutcome`](crate::node::ProposeError::UnknownOutcome): the time was over, or the process that asked is gone.
//! Then the client has to ask again, and the second request must not be a second payment.
//!
//! # When the response matters: the state machine remembers
//!
//! Clients number their requests, and the state machine keeps the last response of each: a few lines, and whoever asks
//! again is told what came of it the first time, on any node, after any failure. A bank can so tell *done* from *not
//! enough money*.
//!
//! ```
//! use std::{collections::BTreeMap, io};
//! use paxos_core::{Node, node::ProposeError, port::StateMachine, types::{Membership, Slot}};
//! use serde::{Deserialize, Serialize};
//! # use paxos_storage::MemoryStorage;
//! # use paxos_transport::MemoryNetwork;
//!
//! #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
//! struct Request {
//!     client: u64,
//!     /// Each request of a client has the next one; the same request, asked again, the same one.
//!     number: u64,
//!     payer: String,
//!     payee: String,
//!     amount: u64,
//! }
//!
//! #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
//! enum Answer {
//!     Done,
//!     NotEnoughMoney,
//!     /// A later request of the client has been answered, so nobody waits for this one.
//!     TooOld,
//! }
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Bank {
//!     accounts: BTreeMap<String, u64>,
//!     /// Of each client the number of its last request, and the answer.
//!     answered: BTreeMap<u64, (u64, Answer)>,
//! }
//!
//! impl Bank {
//!     fn answer(&mut self, request: Request) -> Answer {
//!         match self.answered.get(&request.client) {
//!             Some((last, answer)) if *last == request.number => return answer.clone(),
//!             Some((last, _)) if *last > request.number => return Answer::TooOld,
//!             _ => {}
//!         }
//!         let answer = self.pay(&request);
//!         self.answered.insert(request.client, (request.number, answer.clone()));
//!         answer
//!     }
//!
//!     fn pay(&mut self, Request { payer, payee, amount, .. }: &Request) -> Answer {
//!         match self.accounts.get_mut(payer) {
//!             Some(money) if *money >= *amount => *money -= amount,
//!             _ => return Answer::NotEnoughMoney,
//!         }
//!         *self.accounts.entry(payee.clone()).or_default() += amount;
//!         Answer::Done
//!     }
//! }
//!
//! impl StateMachine for Bank {
//!     type Command = Request;
//!     type Response = Answer;
//!     type Snapshot = Bank;
//!
//!     fn apply(&mut self, _: Slot, requests: Vec<Request>) -> Vec<Answer> {
//!         requests.into_iter().map(|request| self.answer(request)).collect()
//!     }
//!
//!     fn snapshot(&self) -> Bank {
//!         self.clone()
//!     }
//!
//!     fn restore(&mut self, _: Slot, bank: Bank) -> io::Result<()> {
//!         *self = bank;
//!         Ok(())
//!     }
//! }
//!
//! /// Asks until there is an answer, with the same number each time.
//! async fn ask(node: &Node<Bank>, request: &Request) -> Result<Answer, ProposeError> {
//!     loop {
//!         match node.propose(request.clone()).await {
//!             Err(ProposeError::UnknownOutcome | ProposeError::Busy) => continue,
//!             answer => return answer,
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut bank = Bank::default();
//! bank.accounts.insert("Ada".to_owned(), 10);
//! # let node = Node::builder(1, Membership::new([(1, "node-1")])?)
//! #     .storage(MemoryStorage::new())
//! #     .transport(MemoryNetwork::new(1).join(1))
//! #     .start(bank)
//! #     .await?;
//! let [payer, payee] = ["Ada", "Bob"].map(str::to_owned);
//! let pay = Request { client: 7, number: 1, payer, payee, amount: 6 };
//! assert_eq!(ask(&node, &pay).await?, Answer::Done);
//! assert_eq!(ask(&node, &pay).await?, Answer::Done, "not paid twice");
//! let again = Request { number: 2, ..pay };
//! assert_eq!(ask(&node, &again).await?, Answer::NotEnoughMoney);
//! assert_eq!(ask(&node, &again).await?, Answer::NotEnoughMoney);
//! # node.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What is remembered is bounded by the number of clients. Which of them may be forgotten, and when, the state machine
//! has to decide from its commands alone: by a command that takes leave, say, or by the number of the slot in which a client
//! was last heard of. A client with several requests under way has several names, or keeps more than the last answer.
//!
//! # When it does not: a name for the request
//!
//! [`Node::propose_as`](crate::Node::propose_as) gives a request a name that the nodes remember: proposed again under it, it
//! has effect once, and the second proposal ends with
//! [`AlreadyApplied`](crate::node::ProposeError::AlreadyApplied). The response is not kept, since nodes know no way to
//! keep it: it may be of any type and any size, and their table goes into every checkpoint within a megabyte. That is
//! enough for a command whose response says nothing more than that it was done.
//!
//! - The **name** of a client ([`ClientId`](crate::types::ClientId)) is any number but the nodes' ids.
//! - The **epoch** is which life of the client it is: a higher one supersedes all requests of lower ones. Of clients that
//!   come and go it has to be from one clock or counter, the number of seconds since 1970 say: nodes remember some
//!   thousands of clients ([`SESSIONS_BYTES_MAX`](crate::limits::SESSIONS_BYTES_MAX)), forget those that were unused for
//!   longest, and refuse whoever has an epoch not above all that were forgotten.
//! - **Numbers** ascend from 1. Requests may be under way side by side, in a range of half of
//!   [`SESSION_WINDOW`](crate::limits::SESSION_WINDOW), 65,536: what is further below the highest number is taken for
//!   settled. Leave no holes, since they take up room; a client with more than
//!   [`SESSION_RANGES_KEPT`](crate::limits::SESSION_RANGES_KEPT) of them may lose its oldest.
//! - What is too old or forgotten is [`Expired`](crate::node::ProposeError::Expired): it has no effect any more, and
//!   whether it had is unknown. Ask the state.
