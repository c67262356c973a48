//! Entries by slot, where slots lie close together: a ring in place of an ordered map.

use std::{collections::VecDeque, fmt};

use crate::types::Slot;

/// At most one entry for each slot. It takes room for every slot between the first and the last
/// that has one, so whoever inserts bounds how far they lie apart.
///
/// Its first and its last place are occupied, so that equal rings are built alike.
#[derive(Clone)]
pub(super) struct Slots<T> {
    /// The slot of the first place.
    first: Slot,
    places: VecDeque<Option<T>>,
    occupied: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { first: Slot::ZERO, places: VecDeque::new(), occupied: 0 }
    }
}

impl<T: fmt::Debug> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.from(Slot::ZERO)).finish()
    }
}

impl<T> Slots<T> {
    /// How many slots have an entry.
    pub(super) fn len(&self) -> usize {
        self.occupied
    }

    pub(super) fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// The first slot with an entry.
    pub(super) fn first(&self) -> Option<Slot> {
        (!self.is_empty()).then_some(self.first)
    }

    /// The last slot with an entry.
    pub(super) fn last(&self) -> Option<Slot> {
        (!self.is_empty()).then(|| Slot(self.first.0 + self.places.len() as u64 - 1))
    }

    fn index(&self, slot: Slot) -> Option<usize> {
        usize::try_from(slot.0.checked_sub(self.first.0)?).ok()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.places.get(self.index(slot)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let index = self.index(slot)?;
        self.places.get_mut(index)?.as_mut()
    }

    /// Returns the entry that was there before.
    pub(super) fn insert(&mut self, slot: Slot, entry: T) -> Option<T> {
        if self.is_empty() {
            self.first = slot;
        }
        while slot < self.first {
            self.places.push_front(None);
            self.first = self.first.previous();
        }
        let index = self.index(slot).expect("not before the first");
        while self.places.len() < index {
            self.places.push_back(None);
        }
        if self.places.len() == index {
            self.places.push_back(Some(entry));
            self.occupied += 1;
            return None;
        }
        let before = self.places[index].replace(entry);
        self.occupied += usize::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        let index = self.index(slot)?;
        let entry = self.places.get_mut(index)?.take()?;
        self.occupied -= 1;
        while self.places.front().is_some_and(Option::is_none) {
            self.places.pop_front();
            self.first = self.first.next();
        }
        while self.places.back().is_some_and(Option::is_none) {
            self.places.pop_back();
        }
        debug_assert_eq!(self.occupied == 0, self.places.is_empty());
        Some(entry)
    }

    /// The entries from `from` on, in order.
    pub(super) fn from(&self, from: Slot) -> impl Iterator<Item = (Slot, &T)> {
        let start = self.index(from).unwrap_or(0).min(self.places.len());
        let first = self.first.0 + start as u64;
        let places = (first..).zip(self.places.range(start..));
        places.filter_map(|(slot, place)| Some((Slot(slot), place.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_an_ordered_map(
            changes in prop::collection::vec((1..20u64, any::<bool>()), 0..60), from in 0..25u64,
        ) {
            let mut slots = Slots::default();
            let mut map = BTreeMap::new();
            for (number, (slot, is_inserted)) in changes.into_iter().enumerate() {
                let slot = Slot(slot);
                if is_inserted {
                    prop_assert_eq!(slots.insert(slot, number), map.insert(slot, number));
                } else {
                    prop_assert_eq!(slots.remove(slot), map.remove(&slot));
                }
                prop_assert_eq!(slots.get(slot), map.get(&slot));
                prop_assert_eq!(slots.get_mut(slot), map.get_mut(&slot));
                prop_assert_eq!(slots.len(), map.len());
                prop_assert_eq!(slots.first(), map.keys().next().copied());
                prop_assert_eq!(slots.last(), map.keys().next_back().copied());
                let rest: Vec<_> = map.range(Slot(from)..).map(|(&slot, entry)| (slot, entry)).collect();
                prop_assert_eq!(slots.from(Slot(from)).collect::<Vec<_>>(), rest);
                prop_assert_eq!(format!("{slots:?}"), format!("{map:?}"));
            }
        }
    }
}
