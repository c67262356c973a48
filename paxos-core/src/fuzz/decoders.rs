//! Messages and values: whatever the bytes, they are refused or mean what they say.

use bytes::Bytes;

use super::{Script, Usual, damage, message, value};
use crate::{
    message::{Message, Promise, Pulled},
    types::Value,
};

fn joined(message: &Message) -> Bytes {
    let parts: Vec<Bytes> = message.encode().parts().cloned().collect();
    Bytes::from(parts.concat())
}

/// What decodes is encoded to something that decodes to the same, and takes no more room in memory
/// than its bytes warrant.
fn check_message(bytes: &[u8]) {
    let Ok(message) = Message::decode(Bytes::copy_from_slice(bytes)) else { return };
    let elements = match &message {
        Message::Promise(Promise { records, .. }) => records.len(),
        Message::Pulled(Pulled { values, .. }) => values.len(),
        Message::Propose(propose) => propose.commands.len(),
        _ => 0,
    };
    assert!(elements <= bytes.len(), "{elements} elements of {} bytes", bytes.len());
    let again = joined(&message);
    assert!(again.len() <= bytes.len(), "an encoding is the shortest");
    assert_eq!(Message::decode(again), Ok(message));
}

fn check_value(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(value) = Value::decode(bytes.clone()) else { return };
    assert_eq!(value.encoded(), bytes);
    if let Value::Batch(batch) = &value {
        assert!(batch.len() <= bytes.len(), "{} commands of {} bytes", batch.len(), bytes.len());
        let requests: Vec<_> = batch.requests().collect();
        assert_eq!(requests.len(), batch.len(), "every command has a request id");
        assert!(requests.iter().all(|(id, _)| id.sequence > 0));
    }
}

#[test]
fn messages() {
    bolero::check!().for_each(|bytes: &[u8]| {
        check_message(bytes);
        let mut script = Script::new(bytes);
        let built = message(&mut script, &Usual::default());
        let encoded = joined(&built);
        assert_eq!(Message::decode(encoded.clone()), Ok(built));
        let mut damaged = encoded.to_vec();
        damage(&mut script, &mut damaged);
        check_message(&damaged);
    });
}

#[test]
fn values() {
    bolero::check!().for_each(|bytes: &[u8]| {
        check_value(bytes);
        let mut script = Script::new(bytes);
        let built = value(&mut script);
        assert_eq!(Value::decode(built.encoded()), Ok(built.clone()));
        let mut damaged = built.encoded().to_vec();
        damage(&mut script, &mut damaged);
        check_value(&damaged);
    });
}
