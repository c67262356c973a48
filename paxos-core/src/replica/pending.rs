//! Which requests of a client have a place, in the queue or in a slot.

use std::{collections::VecDeque, ops::Range};

/// Sequence numbers, as disjoint ranges in ascending order. As a rule there is one: the requests of a
/// client arrive in order and leave in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending(VecDeque<Range<u64>>);

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a request; `false` if it is there already.
    pub(super) fn add(&mut self, sequence: u64) -> bool {
        match self.0.back_mut() {
            Some(last) if last.end == sequence => last.end += 1,
            Some(last) if last.end > sequence => return self.add_below(sequence),
            _ => self.0.push_back(sequence..sequence + 1),
        }
        true
    }

    /// Adds a request that is not above all others.
    fn add_below(&mut self, sequence: u64) -> bool {
        let index = self.0.partition_point(|range| range.end < sequence);
        let range = &mut self.0[index];
        if range.contains(&sequence) {
            return false;
        }
        if range.end == sequence {
            range.end += 1;
            self.join(index);
        } else if range.start == sequence + 1 {
            range.start = sequence;
        } else {
            self.0.insert(index, sequence..sequence + 1);
        }
        true
    }

    /// Joins a range with the next one, if they touch.
    fn join(&mut self, index: usize) {
        let end = self.0[index].end;
        if self.0.get(index + 1).is_some_and(|next| next.start == end) {
            let next = self.0.remove(index + 1).expect("looked at it just now");
            self.0[index].end = next.end;
        }
    }

    /// Removes whichever of these requests are there.
    pub(super) fn remove(&mut self, gone: Range<u64>) {
        let mut index = self.0.partition_point(|range| range.end <= gone.start);
        while let Some(range) = self.0.get_mut(index)
            && range.start < gone.end
        {
            let (below, above) = (range.start..gone.start, gone.end..range.end);
            match (below.is_empty(), above.is_empty()) {
                (true, true) => drop(self.0.remove(index)),
                (false, true) => {
                    *range = below;
                    index += 1;
                }
                (true, false) => *range = above,
                (false, false) => {
                    *range = below;
                    self.0.insert(index + 1, above);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(
            steps in prop::collection::vec((any::<bool>(), 1..40u64, 1..6u64), 0..80),
        ) {
            let (mut pending, mut plain) = (Pending::default(), BTreeSet::new());
            for (adds, first, count) in steps {
                if adds {
                    prop_assert_eq!(pending.add(first), plain.insert(first));
                } else {
                    pending.remove(first..first + count);
                    plain.retain(|sequence| !(first..first + count).contains(sequence));
                }
                let held: Vec<_> = pending.0.iter().cloned().flatten().collect();
                prop_assert_eq!(held, plain.iter().copied().collect::<Vec<_>>());
                let apart = pending.0.iter().zip(pending.0.iter().skip(1));
                prop_assert!(apart.clone().all(|(one, next)| one.end < next.start));
            }
        }
    }
}
