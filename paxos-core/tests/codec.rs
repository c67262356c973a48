//! What serde can encode, as commands: all of it comes back, or is refused.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use paxos_core::port::{Codec, CodecError, Compact};
use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let encoded = value.encode().unwrap_or_else(|error| panic!("{value:?}: {error}"));
    assert_eq!(T::decode(&encoded).as_ref(), Ok(&value));
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Payment {
    payer: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    payee: u64,
    #[serde(skip_serializing_if = "is_zero")]
    amount: u64,
    log: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Tagged {
    Nothing,
    Pay(Payment),
    Invite { from: IpAddr, within: Option<Duration> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "content")]
enum Adjacent {
    Nothing,
    Number(i64),
    Pair(i64, String),
    Fields { a: Option<Option<u8>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Float(f32),
    Letter(char),
    Text(String),
    Many(Vec<Untagged>),
    Deep { deep: Option<Option<u8>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    id: u64,
    #[serde(flatten)]
    payment: Payment,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Plain {
    Unit,
    Newtype(Box<Plain>),
    Tuple(u8, Option<()>),
    Struct {
        at: SocketAddr,
        bytes: Bytes,
    },
    #[serde(skip)]
    Never,
    Last(f64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(HashMap<(u8, char), HashSet<i32>>);

#[test]
fn all_of_serdes_data_model_comes_back() {
    for number in [0, 1, -1, 127, 128, -128, i64::MIN, i64::MAX] {
        comes_back(number);
        comes_back(i128::from(number) * 3);
        comes_back(number as u64);
    }
    comes_back((
        u128::MAX,
        i128::MIN,
        u8::MAX,
        i16::MIN,
        f32::MIN_POSITIVE,
        -0.0_f64,
        f64::INFINITY,
    ));
    comes_back(((), true, 'ß', String::new(), "x".repeat(31), "x".repeat(32), vec![0_u8; 200]));
    comes_back((None::<Option<()>>, Some(None::<()>), Some(Some(()))));
    comes_back(Unit);
    comes_back(Wrapped((0..50).map(|n| ((n, 'x'), (0..i32::from(n)).collect())).collect()));
    comes_back(BTreeMap::from([(Some(-1), 1.5_f32), (None, 2.5)]));
    comes_back(Payment { payer: 1, payee: 2, amount: 3, ..Payment::default() });
    comes_back(Payment { payer: 1, note: Some("x".into()), log: vec![1, 2], ..Payment::default() });
    let payment = Payment { amount: 300, ..Payment::default() };
    let address = "::1".parse().expect("an address");
    for within in [None, Some(Duration::from_millis(1))] {
        comes_back(Tagged::Invite { from: address, within });
    }
    comes_back(vec![Tagged::Nothing, Tagged::Pay(payment.clone())]);
    comes_back(vec![
        Adjacent::Nothing,
        Adjacent::Number(-3),
        Adjacent::Pair(1, "x".into()),
        Adjacent::Fields { a: None },
        Adjacent::Fields { a: Some(None) },
    ]);
    let untagged = vec![
        Untagged::Number(-1),
        Untagged::Float(0.1),
        Untagged::Letter('x'),
        Untagged::Text("xy".into()),
        Untagged::Deep { deep: Some(None) },
        Untagged::Deep { deep: Some(Some(3)) },
    ];
    comes_back(Untagged::Many(untagged));
    let rest: BTreeMap<_, _> =
        [("else".to_owned(), serde_json::json!([null, 1.5, { "a": [] }]))].into();
    comes_back(Flattened { id: 7, payment, rest });
    comes_back(
        serde_json::json!({ "a": [1, -1, 1.25, "x", null, true, { "b": {} }], "c": u64::MAX }),
    );
    let at = "127.0.0.1:1".parse().expect("an address");
    let bytes = Bytes::from_static(&[0, 255]);
    comes_back(vec![
        Plain::Newtype(Box::new(Plain::Newtype(Box::new(Plain::Unit)))),
        Plain::Tuple(1, Some(())),
        Plain::Struct { at, bytes },
        Plain::Last(f64::EPSILON),
    ]);
}

#[test]
fn what_is_not_read_back_as_it_was_is_refused() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Lossy {
        #[serde(skip_deserializing)]
        amount: u64,
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Missing {
        #[serde(skip_serializing)]
        _amount: u64,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum TooLarge {
        Number(u128),
    }

    fn refused<T: Codec>(value: &T) -> String {
        let Err(CodecError::Unencodable(reason)) = value.encode() else { panic!("it is taken") };
        reason
    }

    assert!(Lossy { amount: 0 }.encode().is_ok(), "nothing is lost");
    assert!(refused(&Lossy { amount: 1 }).contains("comes back as another one"));
    assert!(refused(&Missing { _amount: 1 }).contains("missing field"));
    assert!(
        u128::MAX.encode().is_ok(),
        "serde does not set aside numbers of 128 bits, and reads them"
    );
    refused(&TooLarge::Number(u128::MAX));
    assert!(refused(&Untagged::Text("x".into())).contains("as another one"), "as a letter");
    refused(&Plain::Never);
    let deep = |depth| (0..depth).fold(Untagged::Number(1), |inner, _| Untagged::Many(vec![inner]));
    assert!(deep(100).encode().is_ok());
    assert!(refused(&deep(200)).contains("within each other"));
}

/// The compact encoding read 1 → 2 of 3 as 1 → 3 of 7: whatever that happens to is refused.
#[test]
fn what_the_compact_encoding_cannot_carry_is_refused() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Checked {
        payer: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<u64>,
        payee: u64,
        amount: u64,
        log: Vec<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Gap {
        #[serde(skip)]
        _Never,
        First,
        Second,
        _Third,
    }

    let checked = Checked { payer: 1, note: None, payee: 1, amount: 3, log: vec![7, 0] };
    // Read as: a note of 3, from and to others, and the log empty.
    let sent = postcard::to_stdvec(&checked).expect("plain data");
    let arrived: Checked = postcard::from_bytes(&sent).expect("something else");
    assert_ne!(arrived, checked);
    let refused = |result: Result<Bytes, CodecError>| {
        assert!(matches!(result, Err(CodecError::Unencodable(_))), "{result:?}");
    };
    refused(Compact(checked.clone()).encode());
    let whole = Compact(Checked { note: Some(2), ..checked });
    assert_eq!(Compact::decode(&whole.encode().expect("every field")).as_ref(), Ok(&whole));
    refused(Compact(Gap::First).encode());
    refused(Compact(Tagged::Nothing).encode());
    refused(Compact(Untagged::Number(1)).encode());
    refused(Compact(serde_json::json!(1)).encode());
    let rest = BTreeMap::default();
    refused(Compact(Flattened { id: 1, payment: Payment::default(), rest }).encode());
    let map: HashMap<_, _> = (0..100).map(|n| (n, n)).collect();
    let map = Compact(map);
    assert_eq!(Compact::decode(&map.encode().expect("in some order")).as_ref(), Ok(&map));
}

#[test]
fn neither_encoding_is_taken_for_the_other() {
    let plain = 3_u64.encode().expect("a number");
    let compact = Compact(3_u64).encode().expect("a number");
    let other = |found, expected| CodecError::OtherFormat { found, expected };
    assert_eq!(u64::decode(&compact), Err(other(0xC1, 0xD1)));
    assert_eq!(Compact::<u64>::decode(&plain), Err(other(0xD1, 0xC1)));
    assert!(matches!(u64::decode(&[]), Err(CodecError::Malformed(_))));
    assert!(matches!(Compact::<u64>::decode(&[0xC1]), Err(CodecError::Malformed(_))));
    assert!(matches!(Compact::<u64>::decode(&[0xC1, 3, 0]), Err(CodecError::Malformed(_))));
}

/// The bytes are in logs and checkpoints: they stay as they are.
#[test]
fn the_encoding_is_the_one_that_logs_are_written_in() {
    #[derive(Serialize, Deserialize)]
    struct Everything {
        numbers: (u8, u64, i64, u128, i128),
        floats: (f32, f64),
        texts: (char, String, Bytes),
        options: (Option<u8>, Option<()>, bool, bool),
        variants: Vec<Plain>,
    }

    let everything = Everything {
        numbers: (127, 300, -300, 1 << 64, -1 << 64),
        floats: (1.0, -2.0),
        texts: ('ß', "x".repeat(32), Bytes::from_static(&[7])),
        options: (None, Some(()), false, true),
        variants: vec![Plain::Unit, Plain::Tuple(1, None), Plain::Last(0.5)],
    };
    let encoded = everything.encode().expect("plain data");
    let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "d18f",
        "a7",
        "6e756d62657273",
        "8e",
        "7f",
        "85ac02",
        "86ab02",
        "8700000000000000000100000000000000",
        "880000000000000000ffffffffffffffff",
        "90",
        "a6",
        "666c6f617473",
        "8e",
        "890000803f",
        "8a00000000000000c0",
        "90",
        "a5",
        "7465787473",
        "8e",
        "8bdf000000",
        "8c20",
        &"78".repeat(32),
        "8d0107",
        "90",
        "a7",
        "6f7074696f6e73",
        "8e",
        "80",
        "8182",
        "83",
        "84",
        "90",
        "a8",
        "76617269616e7473",
        "8e",
        "a4556e6974",
        "8f",
        "a55475706c65",
        "8e",
        "01",
        "80",
        "90",
        "90",
        "8f",
        "a44c617374",
        "8a000000000000e03f",
        "90",
        "90",
        "90",
    ]
    .concat();
    assert_eq!(hex, expected);
}

proptest! {
    #[test]
    fn any_json_comes_back(numbers in prop::collection::vec(any::<f64>(), 0..4), text: String, whole: i64) {
        comes_back(serde_json::json!({ text.clone(): [text, whole, { "deep": numbers }] }));
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        bytes.insert(0, 0xD1);
        if let Ok(value) = serde_json::Value::decode(&bytes) {
            comes_back(value);
        }
        if let Ok(values) = Vec::<Untagged>::decode(&bytes) {
            prop_assert!(values.len() <= bytes.len());
        }
        drop(Flattened::decode(&bytes));
        drop(Compact::<Payment>::decode(&bytes));
    }
}
