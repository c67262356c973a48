//! The records of a log in memory.
//!
//! Slots come almost always in ascending order, and close together. So records stand side by side in
//! pages, and what one costs is little more than its place.

use std::{collections::BTreeMap, ops::RangeInclusive};

use paxos_core::types::{Ballot, Slot, Value};

/// Slots in a page.
const PAGE_SLOTS: u64 = 256;

#[derive(Debug, Default)]
pub(super) struct Records {
    pages: BTreeMap<u64, Page>,
}

/// By the slot's place in the page; it ends with the last slot that was written.
type Page = Vec<Option<(Ballot, Value)>>;

impl Records {
    /// Replaces the record of a slot, if there is one.
    pub(super) fn insert(&mut self, slot: Slot, ballot: Ballot, value: Value) {
        let (page, place) = position(slot);
        let page = self.pages.entry(page).or_default();
        if page.len() <= place {
            page.resize_with(place + 1, || None);
        }
        page[place] = Some((ballot, value));
    }

    /// Forgets the record of a slot.
    pub(super) fn remove(&mut self, slot: Slot) {
        let (page, place) = position(slot);
        if let Some(record) = self.pages.get_mut(&page).and_then(|page| page.get_mut(place)) {
            *record = None;
        }
    }

    /// Forgets the records of every slot up to this one.
    pub(super) fn remove_through(&mut self, last: Slot) {
        let (page, place) = position(last);
        self.pages = self.pages.split_off(&page);
        if let Some(mut first) = self.pages.first_entry().filter(|first| *first.key() == page) {
            first.get_mut().iter_mut().take(place + 1).for_each(|record| *record = None);
        }
    }

    /// Whether a slot has a record.
    pub(super) fn contains(&self, slot: Slot) -> bool {
        let (page, place) = position(slot);
        self.pages.get(&page).and_then(|page| page.get(place)).is_some_and(Option::is_some)
    }

    /// The records of `slots`, which are at least one, in ascending order.
    pub(super) fn range(
        &self,
        slots: RangeInclusive<Slot>,
    ) -> impl Iterator<Item = (Slot, Ballot, &Value)> {
        let pages = position(*slots.start()).0..=position(*slots.end()).0;
        let records = self.pages.range(pages).flat_map(|(number, page)| {
            let first = number * PAGE_SLOTS;
            page.iter().zip(0..).filter_map(move |(record, place)| {
                let (ballot, value) = record.as_ref()?;
                Some((Slot(first + place), *ballot, value))
            })
        });
        records.filter(move |(slot, ..)| slots.contains(slot))
    }
}

/// The page of a slot, and its place there.
fn position(Slot(slot): Slot) -> (u64, usize) {
    (slot / PAGE_SLOTS, (slot % PAGE_SLOTS) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ballot(round: u64) -> Ballot {
        Ballot { round, ..Ballot::ZERO }
    }

    /// Around the edges of pages, and at the end of everything.
    fn slots() -> impl Strategy<Value = u64> {
        prop_oneof![0..4u64, 250..260u64, 510..515u64, u64::MAX - 2..=u64::MAX]
    }

    #[derive(Clone, Copy, Debug)]
    enum Change {
        Insert(u64),
        Remove(u64),
        RemoveThrough(u64),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            5 => slots().prop_map(Change::Insert),
            2 => slots().prop_map(Change::Remove),
            1 => slots().prop_map(Change::RemoveThrough),
        ];
        prop::collection::vec(change, 0..40)
    }

    proptest! {
        /// Not one up to the slot, and every one behind it, to the last in the same page.
        #[test]
        fn what_is_removed_up_to_a_slot_is_gone_and_nothing_else(
            written in prop::collection::btree_set(slots(), 0..20), last in slots(),
        ) {
            let mut records = Records::default();
            for slot in &written {
                records.insert(Slot(*slot), ballot(*slot), super::Value::Noop);
            }
            records.remove_through(Slot(last));
            let found = records.range(Slot(0)..=Slot(u64::MAX)).map(|(Slot(slot), ..)| slot);
            let found: Vec<_> = found.collect();
            let expected: Vec<_> = written.iter().copied().filter(|slot| *slot > last).collect();
            prop_assert_eq!(found, expected);
            let pages = records.pages.keys().filter(|page| **page < last / PAGE_SLOTS).count();
            prop_assert_eq!(pages, 0, "pages below the slot take room");
        }

        #[test]
        fn records_are_found_as_in_a_map(
            changes in changes(),
            (first, last) in (slots(), slots()),
        ) {
            let (mut records, mut map) = (Records::default(), BTreeMap::new());
            for (round, change) in (1..).zip(changes) {
                match change {
                    Change::Insert(slot) => {
                        records.insert(Slot(slot), ballot(round), super::Value::Noop);
                        map.insert(slot, ballot(round));
                    }
                    Change::Remove(slot) => {
                        records.remove(Slot(slot));
                        map.remove(&slot);
                    }
                    Change::RemoveThrough(last) => {
                        records.remove_through(Slot(last));
                        map.retain(|slot, _| *slot > last);
                    }
                }
                let (Change::Insert(slot) | Change::Remove(slot) | Change::RemoveThrough(slot)) =
                    change;
                prop_assert_eq!(records.contains(Slot(slot)), map.contains_key(&slot));
            }
            let (first, last) = (first.min(last), first.max(last));
            let found = records.range(Slot(first)..=Slot(last));
            let found: Vec<_> = found.map(|(Slot(slot), ballot, _)| (slot, ballot)).collect();
            let expected: Vec<_> = map.range(first..=last).map(|(&slot, &it)| (slot, it)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
