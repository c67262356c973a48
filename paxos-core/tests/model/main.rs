//! Model checking: the real replica in small worlds, in every state that they can reach.
//!
//! A world is three nodes, each the real [`Replica`](paxos_core::Replica) and its disk, and a network.
//! From its first state everything that can happen next is tried, and then everything after that,
//! until no new state comes up ([stateright](https://www.stateright.rs) does the search). What can
//! happen is:
//!
//! - **A candidacy.** A node has heard of no leader for long, and prepares a ballot; whoever led goes
//!   on until it hears of it. The number of candidacies bounds the number of ballots.
//! - **A delivery.** A message arrives that was sent at some time. It stays in the network, so it may
//!   arrive again, at any later time, in any order, or never. A lossy, repeating, delaying and
//!   reordering network is no more than that.
//! - **A write becomes durable**, of a node that may crash. Elsewhere it is durable at once.
//! - **A crash** at any moment: of the writes that were not durable the first few are kept, or none,
//!   or all; what was in memory is gone, and the node starts again from its disk. A node that is down
//!   for a while is one to which nothing is delivered, so that needs no event of its own.
//!
//! The commands are there from the beginning, at the nodes that will lead. A batch takes one, so the
//! number of commands bounds the number of slots.
//!
//! An onlooker sees every disk, and keeps which votes were ever durable: a value is *chosen* when a
//! majority has voted for it at one ballot, whatever any node knows of that. In every state:
//!
//! - *Agreement*: no slot has two chosen values.
//! - *Validity*: what is voted for is a noop, or was proposed by a client.
//! - What is handed to a state machine is chosen.
//! - No rule is broken: no promise sinks, no vote lies below it, no ballot has two values in a slot,
//!   no replica halts, no assertion fails.
//!
//! And in some, so that this does not hold in vain: a value is chosen, a leader is replaced, a hole is
//! filled with a noop, what an earlier leader proposed in vain is chosen after all, or is lost.
//!
//! What is left out, and why that is sound:
//!
//! - *Time.* It stands still but for candidacies; see `node`. What depends on time, retransmission
//!   above all, sends again what the network still has.
//! - *Polls and heartbeats.* The world grants every poll, which allows more than the nodes would; a
//!   heartbeat says nothing that an Accept or Chosen does not.
//! - *Some messages*, in most worlds: losing a message is what a network may do. What each world loses
//!   is part of its definition in `worlds`, and makes it as small as it is.
//!
//! The bounds are candidacies, commands, crashes and what is carried. Nothing else cuts a search
//! short, so the number of states is a property of the protocol, and pinned: if it changes, the
//! protocol does something that it did not do before.
//!
//! ```sh
//! cargo test -p paxos-core --test model
//! cargo test --profile simulation -p paxos-core --no-default-features --test model -- \
//!     --ignored --nocapture --test-threads 1 large
//! ```

mod digest;
mod disk;
mod history;
mod network;
mod node;
#[cfg(paxos_bug_bank)]
mod planted;
mod properties;
mod world;
mod worlds;

use std::{io, time::Instant};

use stateright::{Checker, HasDiscoveries, Model, Path, report::WriteReporter};

use self::world::{Action, State, World};

const THREADS: usize = 2;

fn explore(world: World, shows_progress: bool) {
    let began = Instant::now();
    let (name, states) = (world.name, world.states);
    let checker = world.checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures);
    let checker = if shows_progress {
        checker.spawn_bfs().join_and_report(&mut WriteReporter::new(&mut io::stdout()))
    } else {
        checker.spawn_bfs().join()
    };
    let (unique, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {unique} states, depth {depth}, {:.1} s", began.elapsed().as_secs_f64());
    if let Some((property, path)) = failure_of(&checker) {
        let broken = &path.last_state().history.broken;
        panic!("{name}: not always: {property} {broken:?}\n{}", checker.model().story(&path));
    }
    checker.assert_properties();
    assert!(checker.is_done(), "{name}: the search was cut short");
    assert_eq!(unique, states, "{name} has another number of states");
}

/// What does not always hold, and how it comes to that.
fn failure_of(checker: &impl Checker<World>) -> Option<(&'static str, Path<State, Action>)> {
    let is_failure = |(property, _): &(&'static str, _)| {
        checker.model().property(property).expectation.discovery_is_failure()
    };
    checker.discoveries().into_iter().find(is_failure)
}

#[test]
fn small_worlds() {
    worlds::small().into_iter().for_each(|world| explore(world, false));
}

#[test]
#[ignore = "takes minutes"]
fn large_worlds() {
    worlds::large().into_iter().for_each(|world| explore(world, true));
}
