//! Sets of numbers that mostly follow each other: sequence numbers of a client, slots.

use std::{collections::VecDeque, ops::Range};

use serde::{Deserialize, Serialize, Serializer};

/// Room for so many ranges is not worth giving back.
const RANGES_SPARE: usize = 16;

/// A set of numbers, kept as ranges: ascending, none empty, none touching the next.
///
/// What is added in ascending order extends the last range, so that a set without gaps is one. Encoded is
/// how far each range lies behind the one before, and how long it is: mostly a byte each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>")]
pub(super) struct Ranges(VecDeque<Range<u64>>);

impl Ranges {
    /// How many ranges.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn pop_first(&mut self) {
        self.0.pop_front();
    }

    /// From the lowest number to behind the highest, if there is any.
    pub(super) fn span(&self) -> Option<Range<u64>> {
        Some(self.0.front()?.start..self.0.back()?.end)
    }

    /// The end of the last one of the lowest `count` ranges; `None` if that is none.
    pub(super) fn end_of_lowest(&self, count: usize) -> Option<u64> {
        self.0.get(count.checked_sub(1)?).map(|range| range.end)
    }

    /// Gives memory back that was needed for many more ranges than there are.
    pub(super) fn release(&mut self) {
        let kept = 2 * self.0.len().max(RANGES_SPARE);
        if self.0.capacity() > 2 * kept {
            self.0.shrink_to(kept);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.get(self.first_ending_behind(number)).is_some_and(|range| range.start <= number)
    }

    /// Whether any number of `range` is in the set.
    #[inline]
    pub(super) fn overlaps(&self, range: &Range<u64>) -> bool {
        let found = self.0.get(self.first_ending_behind(range.start));
        !range.is_empty() && found.is_some_and(|found| found.start < range.end)
    }

    /// The first range with a number above or at `number`. Mostly it lies behind them all.
    #[inline]
    fn first_ending_behind(&self, number: u64) -> usize {
        if self.0.back().is_none_or(|last| last.end <= number) {
            return self.0.len();
        }
        self.0.partition_point(|range| range.end <= number)
    }

    #[inline]
    pub(super) fn insert(&mut self, range: Range<u64>) {
        match self.0.back_mut() {
            _ if range.is_empty() => {}
            Some(last) if range.start > last.end => self.0.push_back(range),
            Some(last) if range.start >= last.start => last.end = last.end.max(range.end),
            Some(_) => self.insert_among(range),
            None => self.0.push_back(range),
        }
    }

    /// Those it touches become one with it.
    fn insert_among(&mut self, range: Range<u64>) {
        let first = self.0.partition_point(|other| other.end < range.start);
        let end = self.0.partition_point(|other| other.start <= range.end);
        if first == end {
            self.0.insert(first, range);
            return;
        }
        let merged = self.0[first].start.min(range.start)..self.0[end - 1].end.max(range.end);
        self.0[first] = merged;
        if end - first > 1 {
            self.0.drain(first + 1..end);
        }
        self.check_around(first);
    }

    #[inline]
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        if self.0.front().is_none_or(|first| range.start <= first.start) {
            self.remove_below(range.end);
        } else if self.overlaps(range) {
            self.remove_among(range);
        }
    }

    /// Its ends stay of those it cuts.
    fn remove_among(&mut self, range: &Range<u64>) {
        let first = self.first_ending_behind(range.start);
        let end = self.0.partition_point(|other| other.start < range.end);
        let before = self.0[first].start..range.start;
        let behind = range.end..self.0[end - 1].end;
        self.0.drain(first..end);
        for rest in [behind, before] {
            if !rest.is_empty() {
                self.0.insert(first, rest);
            }
        }
        self.check_around(first);
    }

    /// Checks what ranges are relied on for, where some have just been changed: before `index`, there,
    /// and behind.
    fn check_around(&self, index: usize) {
        let around = self.0.range(index.saturating_sub(1)..self.0.len().min(index + 2));
        assert!(around.clone().all(|range| !range.is_empty()), "a range is empty");
        assert!(around.is_sorted_by(|before, behind| before.end < behind.start), "ranges touch");
    }

    #[inline]
    pub(super) fn remove_below(&mut self, number: u64) {
        while let Some(first) = self.0.front_mut()
            && first.start < number
        {
            if first.end > number {
                first.start = number;
                return;
            }
            self.0.pop_front();
        }
    }

    /// Cuts `range` into pieces that are in the set as a whole or not at all, in order, each with
    /// whether it is.
    pub(super) fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, bool)> {
        let mut index = self.first_ending_behind(range.start);
        let mut start = range.start;
        std::iter::from_fn(move || {
            if start >= range.end {
                return None;
            }
            let found = self.0.get(index).filter(|found| found.start < range.end);
            let (end, is_in) = match found {
                Some(found) if found.start <= start => (found.end.min(range.end), true),
                Some(found) => (found.start, false),
                None => (range.end, false),
            };
            index += usize::from(is_in);
            let piece = start..end;
            start = end;
            Some((piece, is_in))
        })
    }
}

impl Serialize for Ranges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut end = 0;
        serializer.collect_seq(self.0.iter().map(|range| {
            let gap = range.start - end;
            end = range.end;
            (gap, range.end - range.start)
        }))
    }
}

impl TryFrom<Vec<(u64, u64)>> for Ranges {
    type Error = &'static str;

    fn try_from(pairs: Vec<(u64, u64)>) -> Result<Ranges, &'static str> {
        let mut ranges = VecDeque::with_capacity(pairs.len());
        let mut before = 0_u64;
        for (gap, len) in pairs {
            let touches = gap == 0 && !ranges.is_empty();
            let range =
                before.checked_add(gap).and_then(|start| Some(start..start.checked_add(len)?));
            let range = range.filter(|range| !range.is_empty() && !touches);
            let range = range.ok_or("a range is empty, touches another or has no end")?;
            before = range.end;
            ranges.push_back(range);
        }
        Ok(Ranges(ranges))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What is done with a range.
    fn changes() -> impl Strategy<Value = Vec<(u8, u64, u64)>> {
        prop::collection::vec((0..5u8, 0..40u64, 0..8u64), 0..40)
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(changes in changes()) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for (change, start, len) in changes {
                let range = start..start + len;
                match change {
                    0..=2 => {
                        ranges.insert(range.clone());
                        set.extend(range);
                    }
                    3 => {
                        ranges.remove(&range);
                        set.retain(|number| !range.contains(number));
                    }
                    _ => {
                        ranges.remove_below(start);
                        set.retain(|number| *number >= start);
                    }
                }
                let members = ranges.0.iter().cloned().flatten();
                prop_assert_eq!(members.collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ranges.is_empty(), set.is_empty());
                let span = set.first().zip(set.last()).map(|(first, last)| *first..last + 1);
                prop_assert_eq!(ranges.span(), span);
                ranges.release();
                let encoded = postcard::to_stdvec(&ranges).expect("plain data");
                prop_assert_eq!(postcard::from_bytes(&encoded), Ok(ranges.clone()));
            }
        }

        #[test]
        fn a_range_is_cut_where_membership_changes(
            members in prop::collection::vec((0..40u64, 0..8u64), 0..10),
            start in 0..40u64, len in 0..20u64,
        ) {
            let mut ranges = Ranges::default();
            members.into_iter().for_each(|(start, len)| ranges.insert(start..start + len));
            let range = start..start + len;
            let pieces: Vec<_> = ranges.pieces(range.clone()).collect();
            let covered = pieces.iter().flat_map(|(piece, _)| piece.clone());
            prop_assert_eq!(covered.collect::<Vec<_>>(), range.clone().collect::<Vec<_>>());
            for (piece, is_in) in &pieces {
                prop_assert!(piece.clone().all(|number| ranges.contains(number) == *is_in));
            }
            prop_assert!(pieces.windows(2).all(|pair| pair[0].1 != pair[1].1), "as few as can be");
            let overlaps = range.clone().any(|number| ranges.contains(number));
            prop_assert_eq!(ranges.overlaps(&range), overlaps);
        }
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for pairs in [
            &[(1, 0)][..],
            &[(0, 0)],
            &[(1, 2), (0, 1)],
            &[(1, 2), (1, 0)],
            &[(1, u64::MAX)],
            &[(u64::MAX, 1)],
            &[(1, 2), (u64::MAX, 1)],
        ] {
            assert!(Ranges::try_from(pairs.to_vec()).is_err(), "{pairs:?}");
        }
        assert!(Ranges::try_from(vec![(0, 1), (1, 1)]).is_ok());
    }

    #[test]
    fn memory_is_given_back() {
        let mut ranges = Ranges::default();
        (0..40_000).for_each(|number| ranges.insert(2 * number..2 * number + 1));
        assert_eq!(ranges.end_of_lowest(0), None);
        assert_eq!(ranges.end_of_lowest(39_990), Some(79_979));
        ranges.remove_below(79_979);
        ranges.release();
        assert_eq!(ranges.len(), 10);
        assert!(ranges.0.capacity() < 100, "{}", ranges.0.capacity());
    }
}
