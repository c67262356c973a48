//! What may be on a medium after the power has failed: what was synced, and of the rest anything.
//!
//! What has not been synced reaches the medium page by page, in any order, as a page cache and a
//! disk with a queue write it: so any subset of the unsynced pages may be there. A page that was on
//! its way when the power failed may be torn: of its sectors, too, any subset may be there.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
};

use super::medium::{Operation, put};

/// What a page cache writes at once, in bytes.
const PAGE_BYTES: usize = 4096;
/// What a disk writes wholly or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// What reaches the medium as one: a page of a write, or a new length.
#[derive(Clone, Debug)]
enum Unit {
    Page { offset: usize, data: Vec<u8> },
    Length(usize),
}

/// What of a unit has reached the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Share {
    Nothing,
    All,
    /// Only these sectors, counted from the first one that the unit touches.
    Sectors(Range<usize>),
    /// Only those whose bit is set.
    Mask(u64),
}

/// What of all that is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    /// Up to so many unsynced pages, every subset of them.
    pub(super) pages_exhaustive: u32,
    /// Random subsets of pages, and of sectors.
    pub(super) samples: usize,
    /// Whether, of many pages, each is tried alone and left out alone, and the newest are torn.
    pub(super) page_by_page: bool,
    /// Pages are torn at one of so many sectors.
    pub(super) cut_every: usize,
    /// Of so many pages, one is lost when a sync fails; all of them are at 1.
    pub(super) lost_every: usize,
}

/// Goes through the operations of a recording and makes the images that a power cut may leave.
pub(super) struct Images {
    tried: Tried,
    random: fastrand::Rng,
    durable: Vec<u8>,
    unsynced: Vec<Unit>,
    /// How many units the last operation has added.
    newest: usize,
    seen: HashSet<u64>,
}

/// An image, and in words how it came about.
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    pub(super) survivors: String,
}

impl Images {
    /// Starts with what was on the medium before the recording.
    pub(super) fn new(tried: Tried, base: Vec<u8>, seed: u64) -> Images {
        Images {
            tried,
            random: fastrand::Rng::with_seed(seed),
            durable: base,
            unsynced: Vec::new(),
            newest: 0,
            seen: HashSet::new(),
        }
    }

    /// Takes in the next operation.
    pub(super) fn advance(&mut self, operation: &Operation) {
        let before = self.unsynced.len();
        match operation {
            Operation::Sync => {
                for unit in self.unsynced.drain(..) {
                    unit.apply(&mut self.durable, &Share::All);
                }
                self.newest = 0;
                return;
            }
            Operation::FailedSync => {
                for unit in self.unsynced.drain(..) {
                    if self.random.usize(..self.tried.lost_every) > 0 {
                        unit.apply(&mut self.durable, &Share::All);
                    }
                }
                self.newest = 0;
                return;
            }
            Operation::SetLen(len) => self.unsynced.push(Unit::Length(*len)),
            Operation::Write { offset, data } => {
                let mut at = 0;
                while at < data.len() {
                    let end = data.len().min(at + PAGE_BYTES - (offset + at) % PAGE_BYTES);
                    let (offset, data) = (offset + at, &data[at..end]);
                    if !self.is_there(offset, data) {
                        self.unsynced.push(Unit::Page { offset, data: data.to_vec() });
                    }
                    at = end;
                }
            }
        }
        self.newest = self.unsynced.len() - before;
    }

    /// Whether it makes no difference what a power cut spares of these bytes, since they stand there.
    fn is_there(&self, offset: usize, data: &[u8]) -> bool {
        let touches = |unit: &Unit| match unit {
            Unit::Length(_) => true,
            Unit::Page { offset: at, data: other } => {
                offset < at + other.len() && *at < offset + data.len()
            }
        };
        self.durable.get(offset..offset + data.len()) == Some(data)
            && !self.unsynced.iter().any(touches)
    }

    /// The images that a power cut now may leave. `situation` names what is known about the
    /// storage now: an image that was given out in the same situation is not given out again.
    pub(super) fn now(&mut self, situation: usize) -> Vec<Image> {
        let mut images = Vec::new();
        for shares in self.choices() {
            let mut bytes = self.durable.clone();
            for (unit, share) in self.unsynced.iter().zip(&shares) {
                unit.apply(&mut bytes, share);
            }
            let mut hasher = DefaultHasher::new();
            (situation, &bytes).hash(&mut hasher);
            if self.seen.insert(hasher.finish()) {
                images.push(Image { bytes, survivors: describe(&shares) });
            }
        }
        images
    }

    /// Which shares of the unsynced units are tried.
    fn choices(&mut self) -> Vec<Vec<Share>> {
        let count = self.unsynced.len();
        let whole = |there: bool| if there { Share::All } else { Share::Nothing };
        let mut choices: Vec<Vec<Share>> = vec![vec![Share::Nothing; count]];
        if count == 0 {
            return choices;
        }
        if count <= self.tried.pages_exhaustive as usize {
            let subsets = 1..1u64 << count;
            choices.extend(
                subsets.map(|set| (0..count).map(|unit| whole(set >> unit & 1 == 1)).collect()),
            );
        } else {
            choices.push(vec![Share::All; count]);
            for one in (0..count).filter(|_| self.tried.page_by_page) {
                choices.push((0..count).map(|unit| whole(unit == one)).collect());
                choices.push((0..count).map(|unit| whole(unit != one)).collect());
            }
            for _ in 0..self.tried.samples {
                let odds = self.odds();
                choices.push((0..count).map(|_| whole(self.random.f64() < odds)).collect());
            }
        }
        if self.tried.page_by_page {
            self.add_torn(&mut choices);
        }
        choices
    }

    /// Adds what tears pages: the newest ones in turn, at every sector, with everything before them
    /// there or nothing; then all of them at random.
    fn add_torn(&mut self, choices: &mut Vec<Vec<Share>>) {
        let count = self.unsynced.len();
        for torn in (count - self.newest)..count {
            let sectors = self.unsynced[torn].sectors();
            for cut in (1..sectors).step_by(self.tried.cut_every) {
                for others in [Share::Nothing, Share::All] {
                    for part in [0..cut, cut..sectors] {
                        let mut choice = vec![others.clone(); count];
                        choice[torn] = Share::Sectors(part);
                        choices.push(choice);
                    }
                }
            }
        }
        for _ in 0..self.tried.samples {
            let odds = self.odds();
            let mut mask = || {
                (0..u64::BITS)
                    .fold(0, |mask, bit| mask | u64::from(self.random.f64() < odds) << bit)
            };
            choices.push((0..count).map(|_| Share::Mask(mask())).collect());
        }
    }

    /// Often nearly everything has reached the medium, or nearly nothing.
    fn odds(&mut self) -> f64 {
        [0.05, 0.5, 0.95][self.random.usize(..3)]
    }
}

impl Unit {
    /// How many sectors it touches.
    fn sectors(&self) -> usize {
        match self {
            Unit::Length(_) => 1,
            Unit::Page { offset, data } => {
                (offset + data.len()).div_ceil(SECTOR_BYTES) - offset / SECTOR_BYTES
            }
        }
    }

    fn apply(&self, bytes: &mut Vec<u8>, share: &Share) {
        let chosen = |sector: usize| match share {
            Share::Nothing => false,
            Share::All => true,
            Share::Sectors(range) => range.contains(&sector),
            Share::Mask(mask) => mask >> sector & 1 == 1,
        };
        match self {
            Unit::Length(len) if chosen(0) => bytes.resize(*len, 0),
            Unit::Length(_) => {}
            Unit::Page { offset, data } => {
                let first = offset / SECTOR_BYTES;
                for sector in (0..self.sectors()).filter(|sector| chosen(*sector)) {
                    let from = ((first + sector) * SECTOR_BYTES).max(*offset);
                    let to = ((first + sector + 1) * SECTOR_BYTES).min(offset + data.len());
                    put(bytes, from, &data[from - offset..to - offset]);
                }
            }
        }
    }
}

/// The shares in words, for the message of a failure.
fn describe(shares: &[Share]) -> String {
    let all = shares.iter().filter(|share| **share == Share::All).count();
    let mut text = format!("of {} unsynced pages {all} reached the medium", shares.len());
    if all > 0 && all < shares.len() {
        let whole = shares.iter().enumerate().filter(|(_, share)| **share == Share::All);
        text += &format!(" {:?}", whole.map(|(unit, _)| unit).collect::<Vec<_>>());
    }
    for (unit, share) in shares.iter().enumerate() {
        match share {
            Share::Nothing | Share::All => {}
            Share::Sectors(range) => text += &format!(", of page {unit} sectors {range:?}"),
            Share::Mask(mask) => text += &format!(", of page {unit} sectors {:#b}", mask & 0xff),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIED: Tried =
        Tried { pages_exhaustive: 4, samples: 0, page_by_page: true, cut_every: 1, lost_every: 1 };

    fn images(tried: Tried, operations: &[Operation]) -> Vec<Vec<u8>> {
        let mut images = Images::new(tried, vec![0; 3 * PAGE_BYTES], 1);
        operations.iter().for_each(|operation| images.advance(operation));
        images.now(0).into_iter().map(|image| image.bytes).collect()
    }

    fn write(offset: usize, byte: u8, len: usize) -> Operation {
        Operation::Write { offset, data: vec![byte; len] }
    }

    #[test]
    fn every_subset_of_few_pages_is_there_and_what_was_synced_always() {
        let operations = [
            write(2 * PAGE_BYTES, 9, 1),
            Operation::Sync,
            write(0, 1, SECTOR_BYTES),
            write(PAGE_BYTES - 1, 2, 2),
        ];
        let images = images(TRIED, &operations);
        assert!(images.iter().all(|image| image[2 * PAGE_BYTES] == 9), "synced");
        let mut seen: Vec<_> = images
            .iter()
            .map(|image| (image[0], image[PAGE_BYTES - 1], image[PAGE_BYTES]))
            .collect();
        seen.sort_unstable();
        let every = [0, 1].map(|a| [0, 2].map(|b| [0, 2].map(|c| (a, b, c)))).concat().concat();
        assert_eq!(seen, every, "three pages, one of them of one sector: no torn ones");
    }

    #[test]
    fn a_page_is_torn_at_every_sector() {
        let images = images(TRIED, &[write(0, 1, PAGE_BYTES)]);
        let sectors = |image: &Vec<u8>| -> Vec<u8> {
            image[..PAGE_BYTES].iter().step_by(SECTOR_BYTES).copied().collect()
        };
        let seen: HashSet<_> = images.iter().map(sectors).collect();
        assert_eq!((seen.len(), images.len()), (2 + 2 * 7, 2 + 2 * 7));
        assert!(seen.contains(&vec![1, 1, 1, 0, 0, 0, 0, 0]));
        assert!(seen.contains(&vec![0, 0, 0, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn what_a_failed_sync_has_lost_is_there_once_it_is_written_again() {
        let failed = [write(0, 1, PAGE_BYTES), Operation::FailedSync];
        assert_eq!(images(TRIED, &failed), [vec![0; 3 * PAGE_BYTES]], "nothing has reached it");
        let other = [&failed[..], &[write(PAGE_BYTES, 2, PAGE_BYTES), Operation::Sync]].concat();
        let [image] = &images(TRIED, &other)[..] else { panic!("all of it is durable") };
        assert_eq!((image[0], image[PAGE_BYTES]), (0, 2), "a later sync does not write it");
        let again = [&failed[..], &[write(0, 1, PAGE_BYTES), Operation::Sync]].concat();
        let [image] = &images(TRIED, &again)[..] else { panic!("all of it is durable") };
        assert_eq!(image[0], 1);
    }

    #[test]
    fn what_is_there_already_cannot_be_lost() {
        let operations = [write(0, 1, PAGE_BYTES), Operation::Sync, write(0, 1, PAGE_BYTES)];
        assert_eq!(images(TRIED, &operations).len(), 1);
        let over_another = [&operations[..2], &[write(0, 2, 10), write(0, 1, 10)]].concat();
        assert!(images(TRIED, &over_another).iter().any(|image| image[0] == 2));
    }

    #[test]
    fn an_image_is_given_out_once_per_situation() {
        let mut images = Images::new(TRIED, Vec::new(), 1);
        images.advance(&write(0, 1, 10));
        assert_eq!(images.now(0).len(), 2);
        assert_eq!(images.now(0).len(), 0);
        assert_eq!(images.now(1).len(), 2);
    }
}
