//! From the rounds to one figure.

use serde::Serialize;

use super::{Cell, Contestant, Figures, Flavour, Measured};

/// The middle of some figures, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of them are below; between the two in the middle if their number is even.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of at least one figure.
    #[must_use]
    pub fn of(figures: &[f64]) -> Option<Spread> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Spread { median, min, max })
    }
}

/// An entrant's figures in one cell.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// Who.
    pub contestant: Contestant,
    /// In what.
    pub runtime: Flavour,
    /// Whether this is the runtime in which the contestant is fastest here.
    pub counts: bool,
    /// Commands per second.
    pub commands_per_second: Spread,
    /// Processor time of the whole process per command.
    pub cpu_us_per_command: Spread,
    /// Half of the commands were answered in this time.
    pub p50_us: f64,
    /// All but one in a hundred were.
    pub p99_us: f64,
    /// Commands per second, by rounds.
    pub rounds: Vec<f64>,
    /// How long each round took.
    pub seconds: Vec<f64>,
}

impl Standing {
    fn of(figures: &Figures) -> Option<Standing> {
        let microseconds = |quantile| figures.latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Some(Standing {
            contestant: figures.entrant.contestant,
            runtime: figures.entrant.flavour,
            counts: false,
            commands_per_second: Spread::of(&figures.rates)?,
            cpu_us_per_command: Spread::of(&figures.cpu_us)?,
            p50_us: microseconds(0.5),
            p99_us: microseconds(0.99),
            rounds: figures.rates.clone(),
            seconds: figures.times.iter().map(std::time::Duration::as_secs_f64).collect(),
        })
    }
}

/// Everybody in one cell.
#[derive(Clone, Debug, Serialize)]
pub struct CellSummary {
    /// The conditions.
    pub cell: Cell,
    /// Every contestant in every runtime it was measured in.
    pub standings: Vec<Standing>,
    /// The fastest of the peers, and how many times as fast this project is.
    pub best_peer: Option<(Contestant, f64)>,
    /// The part of the echo's speed that this project reaches.
    pub of_echo: Option<f64>,
}

impl CellSummary {
    /// Sums a cell up.
    #[must_use]
    pub fn of((cell, figures): &Measured) -> CellSummary {
        let mut standings: Vec<_> = figures.iter().filter_map(Standing::of).collect();
        for contestant in Contestant::ALL {
            let own = standings.iter_mut().filter(|standing| standing.contestant == contestant);
            let faster = |one: &&mut Standing, other: &&mut Standing| {
                one.commands_per_second.median.total_cmp(&other.commands_per_second.median)
            };
            if let Some(best) = own.max_by(faster) {
                best.counts = true;
            }
        }
        let mut summary = CellSummary { cell: *cell, standings, best_peer: None, of_echo: None };
        let rate = |contestant| summary.rate(contestant);
        if let Some(ours) = rate(Contestant::Ours) {
            let peers = Contestant::ALL.into_iter().filter(|one| one.is_peer());
            let rates = peers.filter_map(|peer| Some((peer, rate(peer)?)));
            let best = rates.max_by(|(_, one), (_, other)| one.total_cmp(other));
            let of_echo = rate(Contestant::Echo).map(|echo| ours / echo);
            summary.best_peer = best.map(|(peer, best)| (peer, ours / best));
            summary.of_echo = of_echo;
        }
        summary
    }

    /// The figures that count for a contestant.
    #[must_use]
    pub fn standing(&self, contestant: Contestant) -> Option<&Standing> {
        self.standings.iter().find(|one| one.contestant == contestant && one.counts)
    }

    /// Its commands per second.
    #[must_use]
    pub fn rate(&self, contestant: Contestant) -> Option<f64> {
        self.standing(contestant).map(|standing| standing.commands_per_second.median)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compare::{Entrant, Mode, Sample, sample};

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(Spread::of(&[]), None);
        let of = |figures: &[f64]| Spread::of(figures).expect("there are figures").median;
        assert_eq!(of(&[3.0]), 3.0);
        assert_eq!(of(&[9.0, 1.0]), 5.0);
        assert_eq!(of(&[7.0, 100.0, 1.0]), 7.0);
        let spread = Spread::of(&[4.0, 2.0, 8.0, 6.0]);
        assert_eq!(spread, Some(Spread { median: 5.0, min: 2.0, max: 8.0 }));
    }

    fn figures(contestant: Contestant, flavour: Flavour, commands: &[u64]) -> Figures {
        let mut figures = Figures::new(Entrant { contestant, flavour });
        for commands in commands {
            let mut latencies = sample::latencies();
            for milliseconds in 1..=100 {
                sample::record(&mut latencies, Duration::from_millis(milliseconds));
            }
            let (elapsed, cpu) = (Duration::from_secs(2), Duration::from_secs(3));
            figures.add(&Sample { commands: *commands, elapsed, cpu, latencies });
        }
        figures
    }

    #[test]
    fn the_better_runtime_counts_and_the_best_peer_is_compared_with() {
        let cell = Cell { mode: Mode::Tasks, nodes: 3, payload: 16, in_flight: 64 };
        let measured = (
            cell,
            vec![
                figures(Contestant::Ours, Flavour::CurrentThread, &[200, 600, 300]),
                figures(Contestant::Ours, Flavour::MultiThread, &[900, 100, 200]),
                figures(Contestant::Omnipaxos, Flavour::MultiThread, &[200]),
                figures(Contestant::Openraft, Flavour::MultiThread, &[100]),
                figures(Contestant::Echo, Flavour::CurrentThread, &[1500]),
            ],
        );
        let summary = CellSummary::of(&measured);
        let ours = summary.standing(Contestant::Ours).expect("it took part");
        assert_eq!(ours.runtime, Flavour::CurrentThread);
        assert_eq!(ours.commands_per_second, Spread { median: 150.0, min: 100.0, max: 300.0 });
        assert_eq!(ours.cpu_us_per_command.median, 10_000.0);
        assert_eq!(summary.best_peer, Some((Contestant::Omnipaxos, 1.5)));
        assert_eq!(summary.of_echo, Some(0.2));
        assert!(summary.standing(Contestant::RaftRs).is_none());
    }

    #[test]
    fn percentiles_are_true_to_one_part_in_a_hundred() {
        let figures = figures(Contestant::Ours, Flavour::Alone, &[1, 2]);
        let standing = Standing::of(&figures).expect("there are figures");
        assert!((standing.p50_us / 50_000.0 - 1.0).abs() < 0.01, "{}", standing.p50_us);
        assert!((standing.p99_us / 99_000.0 - 1.0).abs() < 0.01, "{}", standing.p99_us);
    }
}
