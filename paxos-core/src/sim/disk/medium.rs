//! What a disk is made of: sectors. Each is there as it was written or as it was before; until a
//! sync has ended, which of the two is open for every sector by itself.

use std::ops::Range;

/// What a disk writes as a whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// A row of sectors from position 0, all zeros to begin with. It grows as it is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Medium(Vec<u8>);

impl Medium {
    /// What stands behind `position`, as far as anything was ever written.
    pub(super) fn read_from(&self, position: usize) -> &[u8] {
        self.0.get(position..).unwrap_or_default()
    }

    /// Writes these bytes, whole sectors or not.
    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if self.0.len() < end {
            self.0.resize(end.next_multiple_of(SECTOR_BYTES), 0);
        }
        self.0[position..end].copy_from_slice(bytes);
    }

    /// Copies one sector from a medium that has it.
    pub(super) fn copy_sector(&mut self, from: &Medium, sector: usize) {
        let start = sector * SECTOR_BYTES;
        self.write(start, &from.0[start..start + SECTOR_BYTES]);
    }

    /// The sectors in which these positions lie.
    pub(super) fn sectors(positions: &Range<usize>) -> Range<usize> {
        positions.start / SECTOR_BYTES..positions.end.div_ceil(SECTOR_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_is_there_as_a_whole() {
        let mut cache = Medium::default();
        cache.write(500, &[1; 100]);
        let mut medium = Medium::default();
        assert_eq!(Medium::sectors(&(500..600)), 0..2);
        medium.copy_sector(&cache, 1);
        assert_eq!(medium.read_from(500)[..12], [0; 12]);
        assert_eq!(medium.read_from(512)[..88], [1; 88]);
        assert_eq!(medium.read_from(600), [0; 424]);
        assert_eq!(medium.read_from(5000), []);
    }
}
