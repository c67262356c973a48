//! The store's leases in the simulator. Clients grant, renew and revoke them, put keys with them, and have them end as
//! a leader does, by naming the renewal that they have heard of: as late as messages, pauses and partitions make it.

use std::io;

use paxos_core::{
    port::StateMachine,
    sim::{Check, Question, Simulated, Simulation, linearizability::Call},
    types::Slot,
};
use paxos_kv::{
    proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest},
    store::{
        Backend, Command, ExpireLease, KvError, Reader, RenewLeases, Response, Rules, Store,
        StoreSnapshot,
    },
};
use serde::{Deserialize, Serialize};

const SEEDS: u64 = 20;
const SEEDS_OF_WRONG: u64 = 40;
/// Each may have one key, of its name.
const LEASES: i64 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Request {
    Grant {
        lease: i64,
    },
    Renew {
        lease: i64,
    },
    Put {
        lease: i64,
    },
    Revoke {
        lease: i64,
    },
    /// What a leader does that has counted from this renewal.
    Expire {
        lease: i64,
        renewed: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Outcome {
    Done,
    Refused,
    /// Granted or renewed, in this slot.
    Counts {
        lease: i64,
        renewed: u64,
    },
    /// A read: whether the key is there.
    Found(bool),
}

/// A wrong store ends leases that have been renewed.
struct Leased<const WRONG: bool> {
    store: Store,
    reader: Reader,
}

impl<const WRONG: bool> Leased<WRONG> {
    fn open() -> Self {
        let store = Store::open(Backend::Memory).expect("a store in memory");
        let reader = store.reader();
        Leased { store, reader }
    }
}

fn key(lease: i64) -> bytes::Bytes {
    format!("key {lease}").into()
}

impl<const WRONG: bool> Leased<WRONG> {
    fn carried_out(request: &Request) -> Command {
        match *request {
            Request::Grant { lease } => {
                Command::GrantLease(LeaseGrantRequest { id: lease, ttl: 60 })
            }
            Request::Renew { lease } => Command::RenewLeases(RenewLeases { ids: vec![lease] }),
            Request::Put { lease } => {
                Command::Put(PutRequest { key: key(lease), lease, ..PutRequest::default() })
            }
            Request::Expire { lease, .. } if WRONG => {
                Command::RevokeLease(LeaseRevokeRequest { id: lease })
            }
            Request::Revoke { lease } => Command::RevokeLease(LeaseRevokeRequest { id: lease }),
            Request::Expire { lease, renewed } => {
                Command::ExpireLease(ExpireLease { id: lease, renewed })
            }
        }
    }
}

fn outcome(slot: Slot, request: &Request, answer: Result<Response, KvError>) -> Outcome {
    match (request, answer) {
        (Request::Grant { lease }, Ok(_)) => Outcome::Counts { lease: *lease, renewed: slot.0 },
        (Request::Renew { lease }, Ok(Response::RenewLeases(ttls))) if ttls == [60] => {
            Outcome::Counts { lease: *lease, renewed: slot.0 }
        }
        (Request::Renew { .. }, Ok(_)) | (_, Ok(Response::ExpireLease(false)) | Err(_)) => {
            Outcome::Refused
        }
        (_, Ok(_)) => Outcome::Done,
    }
}

impl<const WRONG: bool> StateMachine for Leased<WRONG> {
    type Command = Request;
    type Response = Outcome;
    type Snapshot = StoreSnapshot;

    fn apply(&mut self, slot: Slot, requests: Vec<Request>) -> Vec<Outcome> {
        let commands = requests.iter().map(|it| Self::carried_out(it).under(Rules::KNOWN));
        let answers = self.store.apply(slot, commands.collect()).into_iter();
        let answers = answers.map(|answer| answer.and_then(|answer| answer.response()));
        requests.iter().zip(answers).map(|(it, answer)| outcome(slot, it, answer)).collect()
    }

    fn snapshot(&self) -> StoreSnapshot {
        self.store.snapshot()
    }

    fn restore(&mut self, slot: Slot, snapshot: StoreSnapshot) -> io::Result<()> {
        self.store.restore(slot, snapshot)
    }

    fn digest(&self) -> Option<u64> {
        self.store.digest()
    }
}

impl<const WRONG: bool> Simulated for Leased<WRONG> {
    fn command(rng: &mut fastrand::Rng) -> Request {
        let lease = rng.i64(1..=LEASES);
        match rng.u8(..10) {
            0..3 => Request::Grant { lease },
            3..6 => Request::Put { lease },
            6 => Request::Revoke { lease },
            _ => Request::Renew { lease },
        }
    }

    fn command_after(rng: &mut fastrand::Rng, heard: &Outcome) -> Request {
        match *heard {
            Outcome::Counts { lease, renewed } if rng.u8(..3) == 0 => {
                Request::Expire { lease, renewed }
            }
            _ => Self::command(rng),
        }
    }

    fn read(&self, question: u64) -> Option<Outcome> {
        let request = RangeRequest { key: key(lease_of(question)), ..RangeRequest::default() };
        Some(Outcome::Found(self.reader.range(&request).expect("a read").count == 1))
    }

    fn judge(calls: Vec<Call<Question<Request>, &Outcome>>) -> Result<(), String> {
        (1..=LEASES).try_for_each(|lease| judge(lease, &calls))
    }

    fn fingerprint(&self) -> u64 {
        self.store.digest().expect("a store that has always had sums")
    }
}

fn lease_of(question: u64) -> i64 {
    (question % LEASES.unsigned_abs()).cast_signed() + 1
}

type Seen<'a> = Call<Question<Request>, &'a Outcome>;

/// Whether a call had ended for sure before another began.
fn is_before(one: &Seen<'_>, other: &Seen<'_>) -> bool {
    one.ended.is_some_and(|ended| ended < other.began)
}

/// Whether a call may have had its effect after `first` and before `last` found what it did.
fn may_be_between(first: &Seen<'_>, call: &Seen<'_>, last: &Seen<'_>) -> bool {
    !is_before(call, first) && !is_before(last, call)
}

/// Checks all that was seen of a lease.
fn judge(lease: i64, calls: &[Seen<'_>]) -> Result<(), String> {
    let commands = |is_wanted: fn(&Request) -> Option<i64>| {
        calls.iter().filter(move |call| match &call.operation {
            Question::Command(request) => is_wanted(request) == Some(lease),
            Question::Read(_) => false,
        })
    };
    let is_refused = |call: &Seen<'_>| call.outcome == Some(&Outcome::Refused);
    let ends = || {
        let ends = commands(|request| match request {
            Request::Revoke { lease } | Request::Expire { lease, .. } => Some(*lease),
            _ => None,
        });
        ends.filter(|call| !is_refused(call))
    };
    let puts = || {
        let puts = commands(|request| match request {
            Request::Put { lease } => Some(*lease),
            _ => None,
        });
        puts.filter(|call| !is_refused(call))
    };
    for end in ends().filter(|end| end.outcome == Some(&Outcome::Done)) {
        let Question::Command(Request::Expire { renewed: known, .. }) = &end.operation else {
            continue;
        };
        let missed = calls.iter().find(|call| match call.outcome {
            Some(Outcome::Counts { lease: other, renewed }) => {
                *other == lease && renewed > known && is_before(call, end)
            }
            _ => false,
        });
        if let Some(missed) = missed {
            return Err(format!(
                "lease {lease} was renewed, and ended all the same: {missed:?}, {end:?}"
            ));
        }
    }
    for read in calls {
        let Question::Read(question) = read.operation else { continue };
        let Some(Outcome::Found(is_there)) = read.outcome else { continue };
        if lease_of(question) != lease {
            continue;
        }
        let done = |call: &&Seen<'_>| call.outcome == Some(&Outcome::Done) && is_before(call, read);
        let excused = if *is_there {
            // Whatever ended the lease, a later put may have come with a new one.
            ends().filter(done).all(|end| puts().any(|put| may_be_between(end, put, read)))
        } else {
            puts().filter(done).all(|put| ends().any(|end| may_be_between(put, end, read)))
        };
        if !excused {
            return Err(format!(
                "the key of lease {lease} is found to be there: {is_there}: {read:?}"
            ));
        }
    }
    Ok(())
}

#[test]
fn what_is_kept_alive_stays_under_faults_and_what_has_ended_is_gone() {
    let simulation = Simulation::of(Leased::<false>::open);
    let mut calls = 0;
    for seed in 0..SEEDS {
        let report = simulation.run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        calls += report.calls;
    }
    assert!(calls > 100 * SEEDS, "only {calls} calls");
}

#[test]
fn a_store_that_ends_what_was_renewed_is_found_out() {
    let simulation = Simulation::of(Leased::<true>::open);
    let failure = (0..SEEDS_OF_WRONG).find_map(|seed| simulation.run(seed).err());
    let failure = failure.expect("it is found out");
    assert_eq!(failure.check, Check::Linearizability, "{failure}");
    assert!(failure.what.contains("was renewed, and ended all the same"), "{failure}");
}
