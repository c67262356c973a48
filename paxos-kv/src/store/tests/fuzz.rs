//! Fuzz targets for what clients send: any bytes as a request of the API, and real requests with
//! bytes replaced. Each goes through the decoder, the checks and two stores, which have to answer
//! alike. `docs/PROOF.md` has the commands.

use paxos_core::port::Codec;
use prost::Message;

use super::*;
use crate::{
    proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest},
    store::{
        Author, Envelope, ExpireLease, NoteLeases, RemainingTime, RenewLeases, RequestLimits,
        corpus, is_read_only,
    },
};

/// Requests of every kind, with what is special about each.
fn seeds() -> Vec<(&'static str, Envelope)> {
    let condition =
        compare("a", CompareTarget::Version, CompareResult::Greater, TargetUnion::Version(0));
    let nested = TxnRequest {
        compare: vec![condition],
        success: vec![put_operation("a", "1"), range_operation(range("a", "\0"))],
        failure: vec![delete_operation("a", "c"), txn_operation(always(vec![]))],
    };
    let lists = always(vec![txn_operation(nested.clone()), put_operation("d", "2")]);
    let reads = always(vec![range_operation(range("a", "z"))]);
    let ignoring = PutRequest { ignore_value: true, prev_kv: true, ..put("a", "") };
    let attributes =
        MemberAttributes { member_id: 3, name: "three".into(), client_urls: vec![], rules: 2 };
    let noted = RemainingTime { id: 1, renewed: 3, milliseconds: 9 };
    let author = Author { user: "root".into(), auth_revision: 3 };
    let commands = [
        ("put", Command::Put(put("a", "value"))),
        ("put-ignore", Command::Put(ignoring)),
        ("delete", Command::DeleteRange(delete("a", "\0"))),
        ("txn", Command::Txn(nested)),
        ("txn-nested", Command::Txn(lists)),
        ("txn-reads", Command::Txn(reads)),
        ("compact", Command::Compact(CompactionRequest { revision: 2, physical: true })),
        ("member", Command::MemberAttributes(attributes)),
        ("rules", Command::RaiseRules(Rules::KNOWN.0)),
        ("grant", Command::GrantLease(LeaseGrantRequest { id: 9, ttl: 60 })),
        ("revoke", Command::RevokeLease(LeaseRevokeRequest { id: 1 })),
        ("renew", Command::RenewLeases(RenewLeases { ids: vec![1, 9] })),
        ("expire", Command::ExpireLease(ExpireLease { id: 1, renewed: 3 })),
        ("note", Command::NoteLeases(NoteLeases { leases: vec![noted] })),
        ("put-leased", Command::Put(PutRequest { lease: 1, ..put("c", "1") })),
    ];
    let seeds = commands.map(|(name, command)| (name, command.under(Rules::KNOWN)));
    let of_a_user =
        Envelope { author: Some(author), ..Command::Put(put("a", "v")).under(Rules::FIRST) };
    seeds.into_iter().chain([("of-a-user", of_a_user)]).collect()
}

/// Two stores that get the same commands.
struct Pair {
    one: Fixture,
    other: Fixture,
}

impl Pair {
    fn new() -> Pair {
        let mut pair = Pair { one: Fixture::new(), other: Fixture::new() };
        pair.apply(Command::Put(put("a", "0")));
        pair.apply(Command::Put(put("b", "0")));
        pair.apply(Command::GrantLease(LeaseGrantRequest { id: 1, ttl: 60 }));
        pair.apply(Command::Put(PutRequest { lease: 1, ..put("b", "1") }));
        pair
    }

    fn apply(&mut self, command: Command) {
        self.apply_under(Rules::KNOWN, command);
    }

    fn apply_under(&mut self, rules: Rules, command: Command) {
        // It would stop them, as it should.
        if matches!(command, Command::RaiseRules(newer) if newer > Rules::KNOWN.0) {
            return;
        }
        let answers =
            [&mut self.one, &mut self.other].map(|it| it.apply_under(rules, command.clone()));
        let [one, other] = answers.map(|answer| format!("{answer:?}"));
        assert_eq!(one, other, "the same command, the same answer");
    }

    /// A client sends a command.
    fn command(&mut self, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let Ok(envelope) = Envelope::decode(&bytes) else { return };
        let again = Envelope::decode(&envelope.encode().expect("infallible"));
        assert_eq!(again.as_ref(), Ok(&envelope));
        let Envelope { rules, command, .. } = envelope;
        if let Command::Txn(request) = &command
            && is_read_only(request)
        {
            let [one, other] = [&self.one, &self.other].map(|it| it.reader.txn(request).is_ok());
            assert_eq!(one, other);
        }
        let served = command.validate(RequestLimits::default());
        assert!(served.is_err() || command.validate(RequestLimits::MAX).is_ok(), "{command:?}");
        self.apply_under(rules, command);
    }

    /// A client sends a read.
    fn range(&self, bytes: &[u8]) {
        let Ok(request) = RangeRequest::decode(bytes) else { return };
        let [one, other] = [&self.one, &self.other].map(|it| it.range(request.clone()));
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        if let Ok(response) = one {
            let limit = usize::try_from(request.limit).unwrap_or(0);
            assert!(limit == 0 || response.kvs.len() <= limit);
            assert!(response.kvs.len() as i64 <= response.count, "no key is found uncounted");
        }
    }
}

#[test]
fn requests() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut pair = Pair::new();
        pair.range(bytes);
        pair.command(bytes);
        pair.range(bytes);
    });
}

#[test]
fn damaged_requests() {
    let seeds: Vec<Vec<u8>> = seeds()
        .into_iter()
        .map(|(_, envelope)| envelope.encode().expect("infallible").to_vec())
        .collect();
    type Damage = Vec<(u8, Vec<(u8, u8)>)>;
    bolero::check!().with_type::<Damage>().for_each(|damage| {
        let mut pair = Pair::new();
        for (seed, edits) in damage {
            let mut bytes = seeds[*seed as usize % seeds.len()].clone();
            for (at, byte) in edits.iter().take(4) {
                let at = *at as usize % bytes.len();
                bytes[at] = *byte;
            }
            pair.command(&bytes);
            let edit = edits.first().map_or(0, |(_, byte)| i64::from(*byte) - 3);
            let request = RangeRequest { revision: edit, limit: edit, ..range("a", "\0") };
            pair.range(&request.encode_to_vec());
        }
    });
}

#[test]
fn the_corpus_is_of_the_present_format() {
    let target = "tests/__fuzz__/store__tests__fuzz__requests";
    for (name, envelope) in seeds() {
        let encoded = envelope.encode().expect("infallible");
        assert_eq!(Envelope::decode(&corpus::committed(target, name, &encoded)), Ok(envelope));
    }
}
