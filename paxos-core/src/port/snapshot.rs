//! The state of a state machine as bytes.

use std::io::{self, Cursor, Read};

use serde::{Serialize, de::DeserializeOwned};

/// The state of a [`StateMachine`](super::StateMachine) at a moment, on its way to a disk or a peer, or
/// back. Implemented for everything that implements serde's traits.
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
        let bytes = postcard::to_stdvec(&self).map_err(io::Error::other)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn from_reader(mut reader: Box<dyn Read + Send>) -> io::Result<T> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let (state, rest) = postcard::take_from_bytes(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if rest.is_empty() {
            return Ok(state);
        }
        let what = format!("{} bytes behind the state", rest.len());
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

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
}
