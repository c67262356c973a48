//! The encoding without names.

use std::{
    io::{self, Cursor, Read},
    ops::{Deref, DerefMut},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Codec, CodecError, check_arrival, check_format, malformed, self_describing, unencodable,
};
use crate::port::{Snapshot, snapshot};

/// What the bytes begin with; a snapshot's, too.
const FORMAT: u8 = 0xC1;

/// A command, or a state, in [postcard](https://docs.rs/postcard)'s encoding, which has no names in it: a
/// fraction of the bytes, for types whose encoding always has the same shape.
///
/// Without names, fields that are there at times (`skip_serializing_if`), flattened ones, and enums that are
/// tagged or untagged cannot be told from what stands beside them. As a command they are refused in
/// `propose`; a **state** is not looked at again, so wrap none that has them. Nor does the encoding bear
/// changes: with a field more or in another place, what is in the log already is another command, or none.
///
/// ```
/// use paxos_core::port::{Codec, Compact};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Payment {
///     payer: u64,
///     payee: u64,
///     amount: u64,
/// }
///
/// let payment = Compact(Payment { payer: 1, payee: 2, amount: 300 });
/// assert_eq!(payment.encode()?.len(), 5);
/// assert_eq!(payment.0.encode()?.len(), 27);
/// # Ok::<(), paxos_core::port::CodecError>(())
/// ```
///
/// A state machine with `type Command = Compact<Payment>` is proposed `Compact(payment)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Compact<T>(pub T);

impl<T> Deref for Compact<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Compact<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Compact<T> {
    fn from(content: T) -> Compact<T> {
        Compact(content)
    }
}

fn encode(content: &impl Serialize) -> postcard::Result<Vec<u8>> {
    postcard::to_extend(content, vec![FORMAT])
}

/// Of bytes whose format has been looked at.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (content, rest) =
        postcard::take_from_bytes(&bytes[1..]).map_err(|error| error.to_string())?;
    if rest.is_empty() { Ok(content) } else { Err(format!("{} bytes behind it", rest.len())) }
}

impl<T: Serialize + DeserializeOwned> Codec for Compact<T> {
    fn encode(&self) -> Result<Bytes, CodecError> {
        let encoded = encode(&self.0).map_err(unencodable)?;
        let arrived = decode::<T>(&encoded).map_err(unencodable)?;
        // Only names tell whether everything is in its place.
        let sent = self_describing::encode(&self.0).map_err(unencodable)?;
        check_arrival(&sent, &arrived)?;
        Ok(encoded.into())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        check_format(bytes, FORMAT)?;
        decode(bytes).map(Compact).map_err(malformed)
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Snapshot for Compact<T> {
    fn into_reader(self) -> io::Result<Box<dyn Read + Send>> {
        let bytes = encode(&self.0).map_err(io::Error::other)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn from_reader(reader: Box<dyn Read + Send>) -> io::Result<Self> {
        let bytes = snapshot::read(reader, FORMAT)?;
        decode(&bytes).map(Compact).map_err(snapshot::invalid)
    }
}
