//! What must always hold, and what must happen sometimes, so that nothing holds in vain.

use paxos_core::types::Value;
use stateright::Property;

use super::{
    node::command,
    world::{NODES, State, World},
};

pub(crate) const CHOSEN: &str = "a value is chosen";
pub(crate) const REPLACED: &str = "a leader is replaced";
pub(crate) const HOLE_FILLED: &str = "a hole is filled";
pub(crate) const CHOSEN_AGAIN: &str = "what an earlier leader proposed in vain is chosen";
pub(crate) const OVERWRITTEN: &str = "what an earlier leader proposed in vain is lost";

/// The properties of a world.
pub(crate) fn of(world: &World) -> Vec<Property<World>> {
    let always = [
        Property::always("no rule is broken", |_, state: &State| state.history.broken.is_none()),
        Property::always("agreement", |_, state| agree(state)),
        Property::always("validity", valid),
        Property::always("what is delivered is chosen", |_, state| delivered_is_chosen(state)),
    ];
    let sometimes = [
        Property::sometimes(CHOSEN, |_, state| some_chosen(state)),
        Property::sometimes(REPLACED, |_, state| leader_replaced(state)),
        Property::sometimes(HOLE_FILLED, |_, state| hole_filled(state)),
        Property::sometimes(CHOSEN_AGAIN, |_, state| chosen_again(state)),
        Property::sometimes(OVERWRITTEN, |_, state| overwritten(state)),
    ];
    let expected = |property: &Property<World>| world.sometimes.contains(&property.name);
    always.into_iter().chain(sometimes.into_iter().filter(expected)).collect()
}

/// No slot has two chosen values.
fn agree(state: &State) -> bool {
    let mut chosen = state.history.chosen().map(|(slot, _, value)| (slot, value));
    let Some(mut last) = chosen.next() else { return true };
    chosen.all(|next| {
        let agrees = last.0 != next.0 || last.1 == next.1;
        last = next;
        agrees
    })
}

/// What is voted for is a noop or was proposed by a client.
fn valid(world: &World, state: &State) -> bool {
    state.history.votes().all(|(_, _, value)| match value {
        Value::Batch(batch) => batch.requests().all(|(id, bytes)| {
            let node = NODES.iter().position(|&node| world.client_of(node) == id.client.name);
            let proposed = node.map_or(0, |index| world.commands[index]);
            id.client.epoch == 1 && (1..=proposed).contains(&id.sequence) && bytes == command(id)
        }),
        _ => *value == Value::Noop,
    })
}

fn delivered_is_chosen(state: &State) -> bool {
    state.history.delivered().all(|(slot, value)| state.history.is_chosen(slot, value))
}

fn some_chosen(state: &State) -> bool {
    state.history.chosen().any(|(_, _, value)| *value != Value::Noop)
}

/// Leaders of two ballots have had something chosen.
fn leader_replaced(state: &State) -> bool {
    let mut nodes = state.history.chosen().map(|(_, ballot, _)| ballot.node);
    nodes.next().is_some_and(|first| nodes.any(|node| node != first))
}

/// A noop is chosen below a command.
fn hole_filled(state: &State) -> bool {
    let history = &state.history;
    let noops = || history.chosen().filter(|(_, _, value)| **value == Value::Noop);
    let commands = || history.chosen().filter(|(_, _, value)| **value != Value::Noop);
    noops().any(|(hole, ..)| commands().any(|(slot, ..)| hole < slot))
}

/// A minority has voted for a value at a ballot, and a higher one has it chosen.
fn chosen_again(state: &State) -> bool {
    let history = &state.history;
    history.votes().any(|(slot, ballot, value)| {
        let mut chosen = history.chosen().filter(|(in_slot, ..)| *in_slot == slot);
        *value != Value::Noop
            && chosen.next().is_some_and(|(_, at, chosen)| at > ballot && chosen == value)
    })
}

/// A minority has voted for a value at a ballot, and a higher one has another chosen.
fn overwritten(state: &State) -> bool {
    let history = &state.history;
    history.votes().any(|(slot, ballot, value)| {
        history.chosen().any(|(in_slot, at, chosen)| {
            in_slot == slot && at > ballot && chosen != value && *value != Value::Noop
        })
    })
}
