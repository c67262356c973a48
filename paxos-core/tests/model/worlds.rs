//! The worlds, small and large.

use paxos_core::{
    message::Message,
    types::{Ballot, NodeId, Slot},
};

use super::{
    properties::{CHOSEN, CHOSEN_AGAIN, HOLE_FILLED, OVERWRITTEN, REPLACED},
    world::World,
};

/// What phases 1 and 2 consist of.
fn both_phases(_: NodeId, _: NodeId, message: &Message) -> bool {
    matches!(
        message,
        Message::Prepare(_) | Message::Promise(_) | Message::Accept(_) | Message::Accepted(_)
    )
}

/// Besides, how followers learn what is chosen, and how an outdated leader is rejected.
fn normal_operation(from: NodeId, to: NodeId, message: &Message) -> bool {
    both_phases(from, to, message) || matches!(message, Message::Chosen(_) | Message::Reject(_))
}

/// Both phases, but the first leader's Accepts for the first slot are lost.
fn leaving_a_hole(from: NodeId, to: NodeId, message: &Message) -> bool {
    let is_lost = match message {
        Message::Accept(accept) => accept.slot == Slot(1) && from == NodeId(1),
        _ => false,
    };
    both_phases(from, to, message) && !is_lost
}

/// Both phases, but the two leaders do not reach each other.
fn by_way_of_3(from: NodeId, to: NodeId, message: &Message) -> bool {
    both_phases(from, to, message) && (from == NodeId(3) || to == NodeId(3))
}

/// Both phases, but nobody else gets what the first leader proposes at its first ballot; it hears
/// nothing of the second leader, which alone reaches node 3.
fn first_in_vain(from: NodeId, to: NodeId, message: &Message) -> bool {
    let is_carried = match message {
        Message::Accept(accept) => accept.ballot != Ballot { round: 1, node: NodeId(1) },
        _ => true,
    };
    let has_link = match (from.0, to.0) {
        (2, 1) => matches!(message, Message::Promise(_) | Message::Accepted(_)),
        (1, 2) | (2, 3) | (3, 2) => true,
        _ => false,
    };
    both_phases(from, to, message) && has_link && is_carried
}

/// Both phases, but node 3 is gone.
fn two_nodes(from: NodeId, to: NodeId, message: &Message) -> bool {
    both_phases(from, to, message) && from != NodeId(3) && to != NodeId(3)
}

fn world(name: &'static str, states: usize, sometimes: &'static [&'static str]) -> World {
    World {
        name,
        states,
        candidacies: [1, 1, 0],
        commands: [1, 1, 0],
        crashes: [0, 0, 0],
        may_wait_anywhere: false,
        carries: both_phases,
        sometimes,
        #[cfg(paxos_bug_bank)]
        bug: None,
        known: Default::default(),
    }
}

/// Those of an ordinary test run.
pub(crate) fn small() -> Vec<World> {
    vec![
        world("two ballots", 150_225, &[CHOSEN, REPLACED, CHOSEN_AGAIN, OVERWRITTEN]),
        World {
            commands: [2, 0, 0],
            carries: leaving_a_hole,
            ..world("a hole", 119_159, &[CHOSEN, REPLACED, HOLE_FILLED, CHOSEN_AGAIN])
        },
        World {
            commands: [1, 0, 0],
            // Or nobody would learn it before time passes, which it does not.
            may_wait_anywhere: true,
            carries: normal_operation,
            ..world("learning what is chosen", 82_884, &[CHOSEN, REPLACED, CHOSEN_AGAIN])
        },
        World {
            crashes: [0, 0, 1],
            carries: by_way_of_3,
            ..world("a crash", 5_172, &[CHOSEN, REPLACED, OVERWRITTEN])
        },
        World {
            commands: [2, 0, 0],
            crashes: [0, 0, 1],
            carries: by_way_of_3,
            ..world("two slots and a crash", 79_538, &[CHOSEN, REPLACED, HOLE_FILLED, OVERWRITTEN])
        },
        World {
            candidacies: [2, 1, 0],
            carries: first_in_vain,
            ..world("three ballots", 8_950, &[CHOSEN, REPLACED, CHOSEN_AGAIN, OVERWRITTEN])
        },
        World {
            candidacies: [2, 0, 0],
            commands: [1, 0, 0],
            crashes: [1, 0, 0],
            carries: two_nodes,
            ..world("a leader crashes", 539, &[CHOSEN, CHOSEN_AGAIN])
        },
    ]
}

/// Those that take minutes.
pub(crate) fn large() -> Vec<World> {
    vec![
        World {
            commands: [2, 0, 0],
            ..world("two slots", 1_996_719, &[CHOSEN, REPLACED, HOLE_FILLED, CHOSEN_AGAIN])
        },
        World {
            candidacies: [2, 0, 0],
            commands: [1, 0, 0],
            crashes: [1, 0, 0],
            ..world("a leader crashes, all links", 233_496, &[CHOSEN, CHOSEN_AGAIN])
        },
    ]
}
