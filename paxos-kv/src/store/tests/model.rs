//! Random requests to the store and to a naive model of it, which keeps a whole map of keys for
//! every revision, have to get the same answers: while layers are flushed, compacted revisions
//! cleaned up, the store reopened with and without a crash, and its state sent to another one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    proto::etcdserverpb::{
        CompactionResponse, DeleteRangeResponse, PutResponse, ResponseHeader, ResponseOp,
        range_request::{SortOrder, SortTarget},
        response_op,
    },
    store::RequestLimits,
};

type State = BTreeMap<Bytes, KeyValue>;

struct Model {
    /// By revision; the first revision is 1.
    states: Vec<State>,
    compacted: i64,
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

fn selects(key: &Bytes, range_end: &Bytes, candidate: &Bytes) -> bool {
    match &range_end[..] {
        [] => candidate == key,
        [0] => candidate >= key,
        _ => candidate >= key && candidate < range_end,
    }
}

impl Model {
    fn new() -> Model {
        Model { states: vec![State::new(); 2], compacted: -1 }
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).expect("few revisions") - 1
    }

    fn latest(&self) -> &State {
        self.states.last().expect("never empty")
    }

    fn check(&self, request: &RangeRequest) -> Result<(), KvError> {
        if request.revision > self.revision() {
            Err(KvError::FutureRevision)
        } else if request.revision > 0 && request.revision < self.compacted {
            Err(KvError::Compacted)
        } else {
            Ok(())
        }
    }

    /// Answers from `latest`, or from an older state if one is asked for.
    fn range(&self, latest: &State, revision: i64, request: &RangeRequest) -> RangeResponse {
        let state = match usize::try_from(request.revision) {
            Ok(old @ 1..) => &self.states[old],
            _ => latest,
        };
        let mut kvs: Vec<KeyValue> = state
            .values()
            .filter(|found| selects(&request.key, &request.range_end, &found.key))
            .cloned()
            .collect();
        let count = i64::try_from(kvs.len()).expect("few keys");
        let bound = |bound: i64, otherwise| if bound == 0 { otherwise } else { bound };
        kvs.retain(|found| {
            found.mod_revision >= request.min_mod_revision
                && found.mod_revision <= bound(request.max_mod_revision, i64::MAX)
                && found.create_revision >= request.min_create_revision
                && found.create_revision <= bound(request.max_create_revision, i64::MAX)
        });
        match request.sort_target() {
            SortTarget::Key => (),
            SortTarget::Version => kvs.sort_by_key(|found| found.version),
            SortTarget::Create => kvs.sort_by_key(|found| found.create_revision),
            SortTarget::Mod => kvs.sort_by_key(|found| found.mod_revision),
            SortTarget::Value => kvs.sort_by_key(|found| found.value.clone()),
        }
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        let more = !request.count_only && limit.is_some_and(|limit| kvs.len() > limit);
        kvs.truncate(limit.unwrap_or(usize::MAX));
        if request.count_only {
            kvs.clear();
        }
        for found in &mut kvs {
            if request.keys_only {
                found.value.clear();
            }
        }
        RangeResponse { header: header(revision), kvs, more, count }
    }

    fn apply(&mut self, command: &Command) -> Result<Response, KvError> {
        command.validate(RequestLimits::MAX)?;
        let mut change = Change { model: self, state: self.latest().clone(), changed: false };
        let response = match command {
            Command::Put(request) => {
                change.check_lease(request)?;
                change.check_put(request, &[])?;
                Response::Put(change.put(request))
            }
            Command::DeleteRange(request) => Response::DeleteRange(change.delete(request)),
            Command::Txn(request) => {
                change.check_puts(request, &mut Vec::new())?;
                change.check_ranges(request)?;
                let mut response = change.txn(request);
                response.header = header(change.revision());
                Response::Txn(response)
            }
            Command::Compact(request) => {
                if request.revision <= self.compacted {
                    return Err(KvError::Compacted);
                }
                if request.revision > self.revision() {
                    return Err(KvError::FutureRevision);
                }
                let response = CompactionResponse { header: header(self.revision()) };
                self.compacted = request.revision;
                return Ok(Response::Compact(response));
            }
            Command::MemberAttributes(_) => Response::MemberAttributes,
            _ => unreachable!("of a kind that is not made here"),
        };
        if change.changed {
            let state = change.state;
            self.states.push(state);
        }
        Ok(response)
    }
}

/// A command under way.
struct Change<'m> {
    model: &'m Model,
    state: State,
    changed: bool,
}

impl Change<'_> {
    fn revision(&self) -> i64 {
        self.model.revision() + i64::from(self.changed)
    }

    fn check_lease(&self, request: &PutRequest) -> Result<(), KvError> {
        if request.lease == 0 { Ok(()) } else { Err(KvError::LeaseNotFound) }
    }

    fn check_put(
        &self,
        request: &PutRequest,
        deleted: &[&DeleteRangeRequest],
    ) -> Result<(), KvError> {
        let key = &request.key;
        let gone = deleted.iter().any(|range| selects(&range.key, &range.range_end, key))
            || !self.model.latest().contains_key(key);
        if gone && (request.ignore_value || request.ignore_lease) {
            return Err(KvError::KeyNotFound);
        }
        self.check_lease(request)
    }

    fn taken<'t>(&self, request: &'t TxnRequest) -> (bool, &'t [RequestOp]) {
        let succeeded = request.compare.iter().all(|compare| {
            let latest = self.model.latest().values();
            let mut found =
                latest.filter(|found| selects(&compare.key, &compare.range_end, &found.key));
            let missing = KeyValue::default();
            let Some(first) = found.next() else {
                return compare.target() != CompareTarget::Value && relates(compare, &missing);
            };
            relates(compare, first) && found.all(|found| relates(compare, found))
        });
        (succeeded, if succeeded { &request.success } else { &request.failure })
    }

    fn check_puts<'t>(
        &self,
        request: &'t TxnRequest,
        deleted: &mut Vec<&'t DeleteRangeRequest>,
    ) -> Result<(), KvError> {
        for operation in self.taken(request).1 {
            match operation.request.as_ref().expect("validated") {
                Request::RequestPut(request) => self.check_put(request, deleted)?,
                Request::RequestDeleteRange(request) => deleted.push(request),
                Request::RequestTxn(nested) => self.check_puts(nested, deleted)?,
                Request::RequestRange(_) => (),
            }
        }
        Ok(())
    }

    fn check_ranges(&self, request: &TxnRequest) -> Result<(), KvError> {
        for operation in self.taken(request).1 {
            match operation.request.as_ref().expect("validated") {
                Request::RequestRange(request)
                    if request.revision < self.model.compacted.min(0) =>
                {
                    return Err(KvError::Compacted);
                }
                Request::RequestRange(request) => self.model.check(request)?,
                Request::RequestTxn(nested) => self.check_ranges(nested)?,
                _ => (),
            }
        }
        Ok(())
    }

    fn txn(&mut self, request: &TxnRequest) -> TxnResponse {
        let (succeeded, operations) = self.taken(request);
        let answer = |operation: &RequestOp| ResponseOp {
            response: Some(match operation.request.as_ref().expect("validated") {
                Request::RequestRange(request) => response_op::Response::ResponseRange(
                    self.model.range(&self.state, self.revision(), request),
                ),
                Request::RequestPut(request) => {
                    response_op::Response::ResponsePut(self.put(request))
                }
                Request::RequestDeleteRange(request) => {
                    response_op::Response::ResponseDeleteRange(self.delete(request))
                }
                Request::RequestTxn(nested) => response_op::Response::ResponseTxn(self.txn(nested)),
            }),
        };
        let responses = operations.iter().map(answer).collect();
        TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses }
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        self.changed = true;
        let revision = self.revision();
        let before = self.state.get(&request.key).cloned();
        let kept = before.as_ref().filter(|_| request.ignore_value).map(|kv| kv.value.clone());
        let now = KeyValue {
            key: request.key.clone(),
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            value: kept.unwrap_or_else(|| request.value.clone()),
            lease: 0,
        };
        self.state.insert(request.key.clone(), now);
        PutResponse { header: header(revision), prev_kv: before.filter(|_| request.prev_kv) }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let before = std::mem::take(&mut self.state);
        let (gone, left): (State, State) =
            before.into_iter().partition(|(key, _)| selects(&request.key, &request.range_end, key));
        self.state = left;
        self.changed |= !gone.is_empty();
        DeleteRangeResponse {
            header: header(self.revision()),
            deleted: i64::try_from(gone.len()).expect("few keys"),
            prev_kvs: if request.prev_kv { gone.into_values().collect() } else { vec![] },
        }
    }
}

fn relates(compare: &Compare, found: &KeyValue) -> bool {
    let number = |with: i64, is: i64| is.cmp(&with);
    let ordering = match compare.target_union.as_ref().expect("always given") {
        TargetUnion::Version(with) => number(*with, found.version),
        TargetUnion::CreateRevision(with) => number(*with, found.create_revision),
        TargetUnion::ModRevision(with) => number(*with, found.mod_revision),
        TargetUnion::Lease(with) => number(*with, found.lease),
        TargetUnion::Value(with) => found.value.cmp(with),
    };
    match compare.result() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}

fn any_key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "aa", "b", "c", "d", "\0"]).prop_map(Bytes::from)
}

fn any_end() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "", "", "\0", "b", "c", "z"]).prop_map(Bytes::from)
}

fn any_revision() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0i64), 5 => 1i64..30, 1 => -2i64..200]
}

prop_compose! {
    fn any_put()(
        key in any_key(), value in "[xyz]{0,2}", lease in prop_oneof![20 => Just(0i64), 1 => Just(5)],
        prev_kv: bool, ignore_value in prop::bool::weighted(0.1),
        ignore_lease in prop::bool::weighted(0.1),
    ) -> PutRequest {
        let value = if ignore_value { Bytes::new() } else { value.into() };
        PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease }
    }
}

prop_compose! {
    fn any_delete()(key in any_key(), range_end in any_end(), prev_kv: bool) -> DeleteRangeRequest {
        DeleteRangeRequest { key, range_end, prev_kv }
    }
}

prop_compose! {
    fn any_range()(
        key in any_key(), range_end in any_end(), limit in -1i64..4, revision in any_revision(),
        sort in 0usize..6, keys_only: bool, count_only in prop::bool::weighted(0.2),
        filters in prop::array::uniform4(prop_oneof![6 => Just(0i64), 1 => 1i64..20]),
    ) -> RangeRequest {
        let target = [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod,
            SortTarget::Value, SortTarget::Key][sort];
        RangeRequest {
            key, range_end, limit, revision, keys_only, count_only,
            sort_order: SortOrder::Ascend.into(), sort_target: target.into(),
            min_mod_revision: filters[0], max_mod_revision: filters[1],
            min_create_revision: filters[2], max_create_revision: filters[3],
            ..RangeRequest::default()
        }
    }
}

fn any_compare() -> impl Strategy<Value = Compare> {
    let with = prop_oneof![
        (0i64..3).prop_map(|with| (CompareTarget::Version, TargetUnion::Version(with))),
        (0i64..20).prop_map(|with| (CompareTarget::Create, TargetUnion::CreateRevision(with))),
        (0i64..20).prop_map(|with| (CompareTarget::Mod, TargetUnion::ModRevision(with))),
        "[xyz]{0,1}".prop_map(|with| (CompareTarget::Value, TargetUnion::Value(with.into()))),
        (0i64..2).prop_map(|with| (CompareTarget::Lease, TargetUnion::Lease(with))),
    ];
    (0i32..4, with, any_key(), any_end()).prop_map(|(result, (target, with), key, range_end)| {
        Compare { result, target: target.into(), key, range_end, target_union: Some(with) }
    })
}

fn any_operation() -> impl Strategy<Value = RequestOp> {
    let leaf = prop_oneof![
        any_put().prop_map(Request::RequestPut),
        any_delete().prop_map(Request::RequestDeleteRange),
        any_range().prop_map(Request::RequestRange),
    ]
    .prop_map(operation);
    leaf.prop_recursive(2, 8, 3, |inner| any_txn_of(inner).prop_map(txn_operation))
}

fn any_txn_of(operations: impl Strategy<Value = RequestOp>) -> impl Strategy<Value = TxnRequest> {
    let operations = prop::collection::vec(operations, 0..4);
    let lists = (prop::collection::vec(any_compare(), 0..2), prop::array::uniform2(operations));
    lists.prop_map(|(compare, [success, failure])| TxnRequest { compare, success, failure })
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => any_put().prop_map(Command::Put),
        2 => any_delete().prop_map(Command::DeleteRange),
        4 => any_txn_of(any_operation()).prop_map(Command::Txn),
        1 => (-1i64..30).prop_map(|revision| {
            Command::Compact(CompactionRequest { revision, physical: false })
        }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    /// A slot.
    Commands(Vec<Command>),
    Read(RangeRequest),
    Flush,
    /// Wait for the cleaning up.
    Clean,
    /// Stop without a flush, start again, replay.
    Crash,
    /// Send the state to another store, which has applied so many slots, and go on there.
    Move(usize),
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => prop::collection::vec(any_command(), 1..4).prop_map(Step::Commands),
        6 => any_range().prop_map(Step::Read),
        1 => Just(Step::Flush),
        1 => Just(Step::Clean),
        1 => Just(Step::Crash),
        1 => (0usize..9).prop_map(Step::Move),
    ];
    prop::collection::vec(step, 1..60)
}

/// Layers so small that they are flushed every few slots.
const LIMITS: flusher::Limits = flusher::Limits { layer_bytes: 2000, layer_slots: 9 };

type Unread = Vec<(Result<Answer, KvError>, Result<Response, KvError>)>;

/// An answer is as of its command, whatever has happened since.
fn read_late(unread: Unread) -> Result<(), TestCaseError> {
    for (answer, expected) in unread {
        prop_assert_eq!(answer.and_then(Answer::response), expected);
    }
    Ok(())
}

fn run(steps: Vec<Step>, directory: Option<&Path>) -> Result<(), TestCaseError> {
    let backend = |number: usize| {
        directory.map_or(Backend::Memory, |path| in_file(&path.join(number.to_string())))
    };
    let mut moves = 0;
    let mut fixture = Fixture::open(backend(moves), LIMITS);
    let mut model = Model::new();
    // It has applied the same, and nothing else has ever happened to it.
    let mut twin = Fixture::new();
    let mut log: Vec<Vec<Command>> = Vec::new();
    // Read as late as can be: as long as this store is there.
    let mut unread = Vec::new();
    for step in steps {
        if matches!(step, Step::Crash | Step::Move(_)) {
            read_late(std::mem::take(&mut unread))?;
        }
        match step {
            Step::Commands(commands) => {
                let expected: Vec<_> =
                    commands.iter().map(|command| model.apply(command)).collect();
                log.push(commands.clone());
                twin.apply_all(commands.clone());
                unread.extend(fixture.apply_unread(commands).into_iter().zip(expected));
            }
            Step::Read(request) => {
                let expected = model
                    .check(&request)
                    .map(|()| model.range(model.latest(), model.revision(), &request));
                prop_assert_eq!(fixture.range(request), expected);
            }
            Step::Flush => {
                fixture.store.flush();
                prop_assert_eq!(fixture.store.durable(), Some(fixture.slot));
            }
            Step::Clean => fixture.store.shared.wait_until_clean(),
            Step::Crash => {
                drop(fixture);
                fixture = Fixture::open(backend(moves), LIMITS);
                let durable = usize::try_from(fixture.slot.0).expect("few slots");
                for commands in &log[durable..] {
                    fixture.apply_all(commands.clone());
                }
            }
            Step::Move(_) if log.is_empty() => {}
            Step::Move(applied) => {
                let snapshot = fixture.store.snapshot();
                moves += 1;
                let mut other = Fixture::open(backend(moves), LIMITS);
                for commands in &log[..applied.min(log.len() - 1)] {
                    other.apply_all(commands.clone());
                }
                other.restore(fixture.slot, read_out(snapshot)).expect("a state");
                prop_assert_eq!(other.store.durable(), Some(fixture.slot));
                fixture = other;
            }
        }
        let reader = &fixture.reader;
        prop_assert_eq!(reader.revision(), model.revision());
        prop_assert_eq!(reader.compacted_revision(), model.compacted);
        prop_assert_eq!(fixture.store.digest(), twin.store.digest());
    }
    read_late(unread)?;
    for revision in model.compacted.max(1)..=model.revision() {
        let request = RangeRequest { revision, ..range("\0", "\0") };
        let expected = model.range(model.latest(), model.revision(), &request);
        prop_assert_eq!(fixture.range(request), Ok(expected));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_store_in_memory_answers_like_the_model(steps in any_steps()) {
        run(steps, None)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_store_in_a_file_answers_like_the_model(steps in any_steps()) {
        let directory = tempfile::tempdir().expect("a directory");
        run(steps, Some(directory.path()))?;
    }
}
