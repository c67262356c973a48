//! Makes the faults of a schedule happen, and keeps an eye on the servers meanwhile.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tonic::transport::Channel;

use super::{
    cluster::Cluster,
    company::Company,
    faults::{Fault, Schedule, Step, effect},
    hosts::Lost,
    progress::Progress,
    wire::status,
};

/// How long a server may take to say who leads.
const STATUS_MAX: Duration = Duration::from_millis(200);

/// How often the processes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The beginning or the end of a step.
struct Moment {
    at: Duration,
    begins: bool,
    step: Step,
}

/// Whatever makes the servers suffer.
pub(crate) struct Nemesis {
    start: Instant,
    channels: Vec<Channel>,
    /// How often each fault happened.
    pub(crate) counts: BTreeMap<Fault, u64>,
    /// How often something came of each fault.
    pub(crate) consequences: BTreeMap<Fault, u64>,
    /// What had come of all faults when each that is under way began.
    effects_before: BTreeMap<Fault, u64>,
    /// What happened, and when.
    pub(crate) log: Vec<String>,
    /// The process fault that is under way, and the servers in its order.
    process_fault: Option<(Fault, Vec<usize>)>,
    company: Company,
}

impl Nemesis {
    pub(crate) fn new(channels: Vec<Channel>) -> Nemesis {
        Nemesis {
            start: Instant::now(),
            channels,
            counts: BTreeMap::new(),
            consequences: BTreeMap::new(),
            effects_before: BTreeMap::new(),
            log: Vec::new(),
            process_fault: None,
            company: Company::default(),
        }
    }

    /// Plays a schedule to its end; everything is healed then, though servers may still be on
    /// their way up.
    ///
    /// # Errors
    ///
    /// If a server ended that had no reason to, or a fault cannot be made to happen.
    pub(crate) async fn play(
        &mut self,
        schedule: Schedule,
        cluster: &mut Cluster,
        progress: &mut Progress<'_>,
    ) -> Result<(), String> {
        self.start = Instant::now();
        for moment in moments(schedule) {
            self.wait_until(moment.at, cluster, progress).await?;
            if !moment.begins && !moment.step.fault.is_of_network() {
                self.company.leave().await?;
            }
            let changed = match moment.begins {
                true => self.begin(moment.step, cluster).await,
                false => self.end(moment.step.fault, cluster),
            };
            changed.map_err(|error| format!("a fault could not be made to happen: {error}"))?;
        }
        Ok(())
    }

    /// Looks after the servers until so long after the start.
    async fn wait_until(
        &mut self,
        at: Duration,
        cluster: &mut Cluster,
        progress: &mut Progress<'_>,
    ) -> Result<(), String> {
        loop {
            self.look_after(cluster)?;
            progress.show(self.start.elapsed(), &self.counts);
            let left = at.saturating_sub(self.start.elapsed());
            if left == Duration::ZERO {
                return Ok(());
            }
            tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
        }
    }

    /// Notices servers that ended, and starts them again unless they are to be down.
    pub(crate) fn look_after(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        cluster.check_processes()?;
        if self.process_fault.is_none() {
            cluster.restart_all().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn begin(&mut self, step: Step, cluster: &mut Cluster) -> io::Result<()> {
        let Step { fault, mut order, leader_first, mask, .. } = step;
        if leader_first && let Some(leader) = self.leader().await {
            let place = order.iter().position(|&node| node == leader).expect("a server");
            order.swap(0, place);
        }
        self.note(fault, &order, cluster);
        self.effects_before.insert(fault, self.effects_like_those_of(fault, cluster)?);
        *self.counts.entry(fault).or_default() += 1;
        if fault.is_of_network() {
            if fault == Fault::DropConstrained {
                leave_behind(order[1], cluster).await?;
            }
            return begin_network_fault(fault, &order, mask, cluster);
        }
        let majority = &order[..=order.len() / 2];
        let small = cluster.with_small_disk();
        let filled = order.iter().copied().find(|node| small.contains(node));
        match fault {
            Fault::KillOne => cluster.kill(order[0])?,
            Fault::KillMajority => majority.iter().try_for_each(|&node| cluster.kill(node))?,
            Fault::KillAll => order.iter().try_for_each(|&node| cluster.kill(node))?,
            Fault::FreezeOne | Fault::FreezeAndKill => cluster.freeze(order[0])?,
            Fault::FreezeMajority => majority.iter().try_for_each(|&node| cluster.freeze(node))?,
            Fault::FillDisk => filled.map_or(Ok(()), |node| cluster.fill_disk(node))?,
            Fault::FillDisks => small.into_iter().try_for_each(|node| cluster.fill_disk(node))?,
            Fault::FillAndKill => {
                if let Some(node) = filled {
                    cluster.fill_disk(node)?;
                    cluster.kill(node)?;
                    // It has to find its way on a disk without room, or to say so and end.
                    cluster.restart_all()?;
                }
            }
            Fault::FillLog => {
                cluster.fill_logs()?;
                // Each is a line, once it has ended.
                self.company.fall_silent(&cluster.endpoints()).await;
                self.company.go_home();
            }
            Fault::SilentClients => self.company.fall_silent(&cluster.endpoints()).await,
            Fault::CrowdAndKill => {
                self.company.crowd(&cluster.endpoints()).await;
                cluster.kill(order[0])?;
                // It has to find its peers while clients hold all that they can hold.
                cluster.restart_all()?;
            }
            Fault::CancellingClients => self.company.cancel(&cluster.endpoints()),
            _ => unreachable!("the others are faults of the network"),
        }
        self.process_fault = Some((fault, order));
        Ok(())
    }

    fn end(&mut self, fault: Fault, cluster: &mut Cluster) -> io::Result<()> {
        let before = self.effects_before.remove(&fault).expect("it has begun");
        let effects = self.effects_like_those_of(fault, cluster)? - before;
        *self.consequences.entry(fault).or_default() += effects;
        if fault.is_of_network() {
            cluster.network.heal();
            return cluster.hosts.lose_nothing();
        }
        self.end_process_fault(cluster)
    }

    fn end_process_fault(&mut self, cluster: &mut Cluster) -> io::Result<()> {
        if let Some((Fault::FreezeAndKill, order)) = self.process_fault.take() {
            cluster.kill(order[0])?;
        }
        cluster.thaw_all()?;
        cluster.make_room()?;
        cluster.restart_all()
    }

    /// What has come of the clients that nobody wants.
    pub(crate) fn company_effects(&self) -> [(&'static str, u64); 1] {
        [(effect::ANSWERED_BESIDE, self.company.answered())]
    }

    /// Effects of the kinds that a fault has. On its track no other fault happens meanwhile, and the
    /// other track has other kinds.
    fn effects_like_those_of(&self, fault: Fault, cluster: &Cluster) -> io::Result<u64> {
        if fault.effects().is_empty() {
            return Ok(0);
        }
        let effects = match fault.is_of_network() {
            true => cluster.network_effects()?,
            false => [&cluster.log_effects()?[..], &self.company_effects()].concat(),
        };
        let alike = effects.iter().filter(|(effect, _)| fault.effects().contains(effect));
        Ok(alike.map(|(_, count)| count).sum())
    }

    /// Who leads, as far as somebody says so who can be asked.
    pub(crate) async fn leader(&self) -> Option<usize> {
        let statuses = self.channels.iter().map(|channel| status(channel, STATUS_MAX));
        let statuses = join_all(statuses).await;
        let answered = statuses.iter().flatten();
        let newest = answered.max_by_key(|status| status.raft_term)?;
        let is_leader = |status: &paxos_kv::proto::etcdserverpb::StatusResponse| {
            status.header.as_ref().is_some_and(|header| header.member_id == newest.leader)
        };
        statuses.iter().position(|status| status.as_ref().is_some_and(is_leader))
    }

    fn note(&mut self, fault: Fault, order: &[usize], cluster: &Cluster) {
        let names: Vec<_> = order.iter().map(|&node| cluster.name(node)).collect();
        let seconds = self.start.elapsed().as_secs_f64();
        self.log.push(format!("{seconds:8.3} s  {fault}: {}", names.join(" ")));
    }
}

/// Has a server miss what the others do meanwhile.
async fn leave_behind(server: usize, cluster: &Cluster) -> io::Result<()> {
    let links = cluster.network.pairs().into_iter();
    let links: Vec<_> = links.filter(|&(from, to)| from == server || to == server).collect();
    cluster.hosts.lose(Lost::All, &links)?;
    tokio::time::sleep(cluster.election_timeout() / 2).await;
    cluster.hosts.lose_nothing()
}

fn begin_network_fault(
    fault: Fault,
    order: &[usize],
    mask: u64,
    cluster: &Cluster,
) -> io::Result<()> {
    if let Some(lost) = fault.loses() {
        return cluster.hosts.lose(lost, &fault.cuts(order, mask));
    }
    let network = &cluster.network;
    let suffering = Fault::suffering(order, mask);
    // Somewhere between hardly noticeable and hardly bearable.
    let severity = (mask >> 8 & 0xff) as f64 / 255.0;
    match fault {
        Fault::Delay => network.change(&suffering, |link| {
            link.delay_max =
                Duration::from_millis(5) + Duration::from_millis(300).mul_f64(severity);
        }),
        Fault::Loss => network.change(&suffering, |link| link.loss = 0.02 + 0.3 * severity),
        Fault::Duplication => network.change(&suffering, |link| link.duplication = 0.5),
        Fault::Reordering => network.change(&suffering, |link| link.reordering = 0.5),
        Fault::Bandwidth => {
            let bytes_per_second = 20_000 + (200_000.0 * severity) as u64;
            network.change(&suffering, |link| link.bandwidth = bytes_per_second);
        }
        Fault::Sever => network.sever(&suffering),
        cut => network.change(&cut.cuts(order, mask), |link| link.is_cut = true),
    }
    Ok(())
}

/// The two tracks as one, in the order of time.
fn moments(schedule: Schedule) -> Vec<Moment> {
    let steps = schedule.network.into_iter().chain(schedule.processes);
    let mut moments: Vec<_> = steps
        .flat_map(|step| {
            let begin = Moment { at: step.from, begins: true, step: step.clone() };
            [begin, Moment { at: step.until, begins: false, step }]
        })
        .collect();
    moments.sort_by_key(|moment| moment.at);
    moments
}
