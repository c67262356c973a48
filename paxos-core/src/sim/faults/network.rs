//! Faults of the network that strike at a moment.

use crate::sim::{agenda::Happening, occurrence::Occurrence, world::World};

impl World<'_> {
    fn mend_links_later(&mut self, rng: &mut fastrand::Rng) {
        let at = self.now + self.while_lasting(rng);
        self.agenda.plan(at, Happening::LinksRecover);
    }

    /// Splits the cluster into two or three groups.
    pub(super) fn partition(&mut self, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::Partitioned);
        let groups = rng.usize(2..4);
        let group: Vec<_> = (0..self.plan.nodes).map(|_| rng.usize(..groups)).collect();
        self.trace.note(self.now, [11, 0, 0], || format!("partition into groups {group:?}"));
        self.network.links.retain(|from, to| group[from] == group[to]);
        self.mend_links_later(rng);
    }

    /// Cuts links at random, or all but those of one node, or all but a chain; each direction by
    /// itself or both together.
    pub(super) fn cut(&mut self, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::CutPartially);
        let nodes = self.plan.nodes;
        let shape = rng.usize(..4);
        let center = rng.usize(..nodes);
        let rate = rng.f64();
        for from in 0..nodes {
            for to in 0..from {
                let (one, other) = match shape {
                    0 => (rng.f64() > rate, rng.f64() > rate),
                    1 => {
                        let both = rng.f64() > rate;
                        (both, both)
                    }
                    2 => (from == center || to == center, from == center || to == center),
                    _ => (from == to + 1, from == to + 1),
                };
                self.network.links.set(from, to, one);
                self.network.links.set(to, from, other);
            }
        }
        let links = &self.network.links;
        self.trace.note(self.now, [12, shape as u64, center as u64], || {
            let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
            let up: Vec<_> = pairs
                .filter(|&(from, to)| from != to && links.is_up(from, to))
                .map(|(from, to)| format!("{}->{}", from + 1, to + 1))
                .collect();
            format!("links left: {}", up.join(" "))
        });
        self.mend_links_later(rng);
    }
}
