//! Members that count the same leases with clocks of their own.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn granted(id: i64, ttl: i64, renewed: u64) -> Counted {
    let remaining_milliseconds = ttl.unsigned_abs() * 1000;
    Counted { id, lease: Some(Lease { ttl, renewed, remaining_milliseconds, keys_bytes: 0 }) }
}

#[test]
fn a_lease_ends_when_its_time_is_over_and_no_earlier() {
    let mut counts = Counts::default();
    counts.take_in(granted(7, 10, 1), SECOND);
    assert_eq!(counts.remaining(7, 4 * SECOND), Some(7 * SECOND));
    let half = counts.due(6 * SECOND, Duration::ZERO);
    assert_eq!(half.ended, []);
    assert_eq!(half.notes, [RemainingTime { id: 7, renewed: 1, milliseconds: 5000 }]);
    assert_eq!(counts.due(11 * SECOND, Duration::ZERO), Due::default());
    assert_eq!(counts.remaining(7, 12 * SECOND), Some(Duration::ZERO));
    let ended = Due { ended: vec![ExpireLease { id: 7, renewed: 1 }], notes: Vec::new() };
    let over = 11 * SECOND + 10 * SECOND / DRIFT;
    assert_eq!(counts.next_due(), Some(over));
    assert_eq!(counts.due(over, Duration::ZERO), ended);
    // Nothing has come of it.
    assert_eq!(counts.due(over, Duration::ZERO), Due::default());
    assert_eq!(counts.due(over + RETRY_INTERVAL, Duration::ZERO), ended);
    counts.take_in(Counted { id: 7, lease: None }, 20 * SECOND);
    assert_eq!((counts.next_due(), counts.remaining(7, 20 * SECOND)), (None, None));
}

#[test]
fn a_renewal_begins_anew_and_a_note_never_makes_it_longer() {
    let mut counts = Counts::default();
    counts.take_in(granted(7, 10, 1), Duration::ZERO);
    counts.take_in(granted(7, 10, 5), 9 * SECOND);
    assert_eq!(counts.remaining(7, 9 * SECOND), Some(10 * SECOND));
    let noted = |renewed, seconds: u64| {
        let lease =
            Lease { ttl: 10, renewed, remaining_milliseconds: seconds * 1000, keys_bytes: 0 };
        Counted { id: 7, lease: Some(lease) }
    };
    counts.take_in(noted(5, 8), 10 * SECOND);
    assert_eq!(counts.remaining(7, 10 * SECOND), Some(8 * SECOND));
    counts.take_in(noted(5, 8), 12 * SECOND);
    assert_eq!(counts.remaining(7, 12 * SECOND), Some(6 * SECOND));
}

#[test]
fn a_new_leader_waits_a_moment_before_it_has_leases_end() {
    let mut counts = Counts::default();
    counts.take_in(granted(7, 2, 1), Duration::ZERO);
    assert_eq!(counts.due(10 * SECOND, 11 * SECOND), Due::default());
    assert_eq!(counts.next_due(), Some(11 * SECOND));
    assert_eq!(counts.due(11 * SECOND, 11 * SECOND).ended.len(), 1);
}

/// What a cluster does to a lease, in true time: members carry out the log some time after it has grown, each with a
/// clock that is too fast or too slow; they pause, restart, and any of them may take itself for the leader.
struct World {
    rng: fastrand::Rng,
    now: Duration,
    /// Every change of the lease.
    log: Vec<Entry>,
    members: Vec<Member>,
    /// What the log says of it.
    lease: Option<Lease>,
    /// When its holder has sent what renewed it last.
    sent: Duration,
    ended: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Entry {
    at: Duration,
    counted: Counted,
}

struct Member {
    counts: Counts,
    /// How much of the log it has carried out, and how far it lags.
    applied: usize,
    lag: Duration,
    /// Parts in 10,000 that its clock is too fast.
    drift: i32,
    paused_until: Duration,
    leads_since: Option<Duration>,
}

const TTL: i64 = 10;
const STEP: Duration = Duration::from_millis(50);
const STEPS_OF_TTL: u32 = 200;

impl World {
    fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let members = (0..3).map(|_| Member {
            counts: Counts::default(),
            applied: 0,
            lag: Duration::ZERO,
            drift: rng.i32(-10..=10),
            paused_until: Duration::ZERO,
            leads_since: None,
        });
        let members = members.collect();
        let (log, lease) = (Vec::new(), None);
        let mut world = World { rng, now: SECOND, log, members, lease, sent: SECOND, ended: None };
        let renewed = world.log.len() as u64 + 1;
        let remaining_milliseconds = TTL.unsigned_abs() * 1000;
        world.write(Some(Lease { ttl: TTL, renewed, remaining_milliseconds, keys_bytes: 0 }));
        world
    }

    fn write(&mut self, lease: Option<Lease>) {
        self.lease = lease;
        self.log.push(Entry { at: self.now, counted: Counted { id: 1, lease } });
    }

    /// The holder's request has taken a while to get here.
    fn renew(&mut self, took: Duration) {
        let Some(lease) = self.lease else { return };
        self.sent = self.now - took;
        let renewed = self.log.len() as u64 + 1;
        let remaining_milliseconds = TTL.unsigned_abs() * 1000;
        self.write(Some(Lease { renewed, remaining_milliseconds, ..lease }));
    }

    fn step(&mut self, faults: bool) {
        self.now += STEP;
        for number in 0..self.members.len() {
            let random = self.rng.u32(..2000);
            let rng = &mut self.rng;
            let member = &mut self.members[number];
            match random {
                0 if faults => member.paused_until = self.now + STEP * rng.u32(..600),
                1 if faults => {
                    // It has started again, and begins with what stands in the log.
                    (member.counts, member.applied) = (Counts::default(), self.log.len());
                    let clock = clock(self.now, member.drift);
                    let lease = self.lease;
                    member.counts.take_in(Counted { id: 1, lease }, clock);
                    member.leads_since = None;
                }
                2 if faults => member.lag = STEP * rng.u32(..100),
                3..6 if faults => member.leads_since = Some(clock(self.now, member.drift)),
                6..9 if faults => member.leads_since = None,
                _ => (),
            }
            if member.paused_until <= self.now {
                self.work(number);
            }
        }
    }

    /// From now on all goes well, and one leads.
    fn calm_down(&mut self) {
        for member in &mut self.members {
            (member.lag, member.paused_until) = (Duration::ZERO, Duration::ZERO);
            member.leads_since = None;
        }
        self.members[0].leads_since = Some(clock(self.now, self.members[0].drift));
    }

    fn work(&mut self, number: usize) {
        let member = &mut self.members[number];
        let clock = clock(self.now, member.drift);
        while let Some(entry) = self.log.get(member.applied)
            && entry.at + member.lag <= self.now
        {
            member.counts.take_in(entry.counted, clock);
            member.applied += 1;
        }
        let Some(since) = member.leads_since else { return };
        let due = member.counts.due(clock, since + SECOND);
        for note in due.notes {
            if let Some(lease) = self.lease.filter(|lease| lease.renewed == note.renewed) {
                let remaining_milliseconds = lease.remaining_milliseconds.min(note.milliseconds);
                self.write(Some(Lease { remaining_milliseconds, ..lease }));
            }
        }
        for end in due.ended {
            if self.lease.is_some_and(|lease| lease.renewed == end.renewed) {
                self.ended = Some(self.now);
                self.write(None);
            }
        }
    }
}

fn clock(now: Duration, drift: i32) -> Duration {
    let off = now / 10_000 * drift.unsigned_abs();
    if drift < 0 { now - off } else { now + off }
}

/// One that is kept alive stays, one that is not stays for as long as its holder may count on it, and goes in the
/// end; whoever leads meanwhile, and however many at once.
#[test]
fn no_lease_ends_early_or_stays_for_ever_whatever_becomes_of_leaders_and_clocks() {
    let ttl = STEP * STEPS_OF_TTL;
    let (mut ended_under_faults, mut kept) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..world.rng.u32(0..20) {
            for _ in 0..world.rng.u32(..STEPS_OF_TTL) {
                world.step(true);
            }
            let took = STEP * world.rng.u32(..20);
            world.renew(took);
        }
        kept += u32::from(world.ended.is_none());
        for _ in 0..world.rng.u32(..3 * STEPS_OF_TTL) {
            world.step(true);
        }
        ended_under_faults += u32::from(world.ended.is_some());
        world.calm_down();
        let calm_since = world.now;
        while world.ended.is_none() {
            world.step(false);
            assert!(world.now < calm_since + 2 * ttl, "seed {seed}: it stays");
        }
        let after = world.ended.expect("it has ended") - world.sent;
        assert!(after >= ttl, "seed {seed}: it ended after {after:?}");
    }
    assert!(kept > 100 && ended_under_faults > 100, "{kept}, {ended_under_faults}");
}
