//! The state of a state machine as bytes.

use std::io::{self, Cursor, Read};

use serde::{Serialize, de::DeserializeOwned};

use super::codec::self_describing;

/// The state of a [`StateMachine`](super::StateMachine) at a moment, on its way to a disk or a peer, or
/// back. Implemented for everything that implements serde's traits, in the same encoding as commands are by
/// default ([`Codec`](super::Codec)); in a shorter one for a [`Compact`](super::Compact) state.
///
/// A large state implements it itself, so that it need not be in memory as a whole: what it gives out is
/// read as fast as disk or peer can take it, and what it takes in it may read when it is put in place.
///
/// ```
/// use std::io::{self, Read};
/// use paxos_core::port::Snapshot;
///
/// /// Rows, as they are in the tables or as they come in.
/// struct Rows(Box<dyn Read + Send>);
///
/// impl Snapshot for Rows {
///     fn into_reader(self) -> io::Result<Box<dyn Read + Send>> {
///         Ok(self.0)
///     }
///
///     fn from_reader(reader: Box<dyn Read + Send>) -> io::Result<Rows> {
///         Ok(Rows(reader))
///     }
/// }
/// ```
pub trait Snapshot: Sized + Send + 'static {
    /// The state as bytes. It is called, and the bytes are read, on a thread that may block; the reader
    /// may be dropped before its end.
    ///
    /// # Errors
    ///
    /// If the state cannot be read. The node stops.
    fn into_reader(self) -> io::Result<Box<dyn Read + Send>>;

    /// The state in the bytes. They are as some node has written them, of whatever version; whether they
    /// make sense is for the implementation to find out.
    ///
    /// # Errors
    ///
    /// If they do not, or cannot be read.
    fn from_reader(reader: Box<dyn Read + Send>) -> io::Result<Self>;
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Snapshot for T {
    fn into_reader(self) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self_describing::encode(&self).map_err(io::Error::other)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn from_reader(reader: Box<dyn Read + Send>) -> io::Result<T> {
        let bytes = read(reader, self_describing::FORMAT)?;
        self_describing::decode(&bytes).map_err(invalid)
    }
}

/// All the bytes of a state, of which the first says that it is in the format expected.
pub(super) fn read(mut reader: Box<dyn Read + Send>, expected: u8) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    match bytes.first() {
        None => Err(invalid("no bytes at all")),
        Some(&found) if found != expected => Err(invalid(format!(
            "the state is in another encoding: it begins with byte {found:#04x} in place of {expected:#04x}; \
             use the Snapshot that it was taken with (Compact, or what serde has by default; what was taken \
             before encodings had numbers is read by a Snapshot of your own that calls postcard::from_bytes)"
        ))),
        Some(_) => Ok(bytes),
    }
}

pub(super) fn invalid(reason: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::port::Compact;

    type State = BTreeMap<String, u64>;

    fn state() -> State {
        [("a", 1), ("b", 300)].map(|(key, value)| (key.to_owned(), value)).into()
    }

    fn bytes() -> Vec<u8> {
        let mut bytes = Vec::new();
        state()
            .into_reader()
            .and_then(|mut reader| reader.read_to_end(&mut bytes))
            .expect("memory");
        bytes
    }

    fn read_back(bytes: Vec<u8>) -> io::Result<State> {
        State::from_reader(Box::new(Cursor::new(bytes)))
    }

    #[test]
    fn what_serde_can_encode_comes_back_and_nothing_else_does() {
        let whole = bytes();
        assert_eq!(read_back(whole.clone()).expect("as it was written"), state());
        for length in 0..whole.len() {
            assert!(read_back(whole[..length].to_vec()).is_err(), "{length} bytes");
        }
        let more = [&whole[..], &[0]].concat();
        assert!(read_back(more).is_err(), "a byte too many");
    }

    #[test]
    fn a_state_in_another_encoding_is_told_apart() {
        let plain = postcard::to_stdvec(&state()).expect("a map");
        for other in [plain.clone(), [vec![0xC1], plain].concat()] {
            let error = read_back(other).expect_err("not what is read here").to_string();
            assert!(error.contains("in another encoding"), "{error}");
        }
        let mut compact = Compact(state()).into_reader().expect("a state");
        let mut bytes = Vec::new();
        compact.read_to_end(&mut bytes).expect("memory");
        let read_back = |bytes| Compact::<State>::from_reader(Box::new(Cursor::new(bytes)));
        assert_eq!(read_back(bytes).expect("as it was written").0, state());
        assert!(read_back(self::bytes()).is_err());
    }
}
