//! A piece of the log, as the replica asks for it.

use crate::message::Record;

/// What [`Storage::read`](super::Storage::read) returns of `records`, which are those it found:
/// all up to the one with which their encoded values reach `bytes_max`.
///
/// Takes no record behind that one from `records`, so whoever finds records as it goes reads no more
/// than it returns, and what is unreadable there is no error yet.
///
/// # Errors
///
/// The first error among the records that are to be returned.
pub fn cut_off<E>(
    records: impl IntoIterator<Item = Result<Record, E>>,
    bytes_max: usize,
) -> Result<Vec<Record>, E> {
    let mut found = Vec::new();
    let mut bytes = 0_usize;
    for record in records {
        let record = record?;
        bytes = bytes.saturating_add(record.value.encoded_len());
        found.push(record);
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Ballot, Slot, Value};

    fn record(slot: u64) -> Record {
        Record { slot: Slot(slot), ballot: Ballot::CHOSEN, value: Value::Noop }
    }

    #[test]
    fn the_record_that_reaches_the_limit_is_the_last() {
        let size = Value::Noop.encoded_len();
        for (bytes_max, expected) in [
            (0, 1),
            (1, 1),
            (size, 1),
            (size + 1, 2),
            (2 * size, 2),
            (3 * size, 3),
            (usize::MAX, 3),
        ] {
            let records = cut_off((1..=3).map(|slot| Ok::<_, ()>(record(slot))), bytes_max);
            let expected: Vec<_> = (1..=expected).map(record).collect();
            assert_eq!(records, Ok(expected), "{bytes_max}");
        }
        assert_eq!(cut_off::<()>([], 0), Ok(vec![]));
    }

    #[test]
    fn an_error_counts_up_to_the_last_record_and_not_behind_it() {
        let size = Value::Noop.encoded_len();
        let records = [Ok(record(1)), Ok(record(2)), Err("damaged")];
        assert_eq!(cut_off(records.clone(), 2 * size), Ok(vec![record(1), record(2)]));
        assert_eq!(cut_off(records, 2 * size + 1), Err("damaged"));
    }
}
