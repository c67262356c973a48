//! Fuzz targets for whatever decodes what others have written.
//!
//! A target is a test: it replays its corpus (`__fuzz__/<target>/corpus`) and whatever ever failed
//! (`__fuzz__/<target>/crashes`), then goes on with random bytes for a second; `docs/PROOF.md`
//! has the commands. Random bytes are rarely a message, so they are also read as a [`Script`] by
//! which sound ones are built, and damaged.

mod decoders;
mod messages;
mod script;

pub(crate) use messages::{message, value};
pub(crate) use script::{Script, Usual, damage};
