//! Faults of the network that strike at a moment: links that are cut, lose messages, or are slow,
//! in every shape. Several may be at work at once. Some end for all links together, others link by
//! link, as connections come back.

use std::time::Duration;

use crate::sim::{
    network::{LARGE_BYTES, Trouble},
    occurrence::Occurrence,
    topology::{Links, Shape},
    world::World,
};

impl World<'_> {
    /// Splits the cluster into groups.
    pub(super) fn partition(&mut self, rng: &mut fastrand::Rng) {
        let links = self.lost_to(Shape::Islands, 0, rng);
        self.impair(&links, Trouble::Cut, rng);
    }

    /// Cuts links so that some nodes may still reach each other only by way of others.
    pub(super) fn cut(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let shape = rng.choice(Shape::PARTIAL).expect("there are some");
        let links = self.lost_to(shape, node, rng);
        self.impair(&links, Trouble::Cut, rng);
    }

    /// The links that a cut to this shape takes away; counted if there are any.
    fn lost_to(&mut self, shape: Shape, node: usize, rng: &mut fastrand::Rng) -> Links {
        let links = shape.draw(self.plan.nodes, &self.present(), node, rng).others();
        if links.iter().next().is_some() {
            self.seen.add(shape.occurrence());
        }
        links
    }

    /// Makes links lose much or take long.
    pub(super) fn weaken(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let shape = rng.choice(Shape::PARTIAL).expect("there are some");
        let links = shape.draw(self.plan.nodes, &self.present(), node, rng).others();
        let trouble = if rng.bool() {
            self.seen.add(Occurrence::MadeFlaky);
            Trouble::Flaky(0.3 + 0.65 * rng.f64())
        } else {
            self.seen.add(Occurrence::MadeSlow);
            Trouble::Slow(self.plan.election_timeout().mul_f64(2.0 * rng.f64()))
        };
        self.impair(&links, trouble, rng);
    }

    /// Leaves links, or one node's uplink, little bandwidth.
    pub(super) fn throttle(&mut self, node: usize, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::MadeNarrow);
        let is_uplink = rng.bool();
        let links = if is_uplink {
            Links::of(self.plan.nodes, |from, _| from == node)
        } else {
            Shape::Random.draw(self.plan.nodes, &self.present(), node, rng)
        };
        let bytes = f64::from(1 << rng.u32(10..18));
        let bytes_per_second = bytes / self.plan.election_timeout().as_secs_f64();
        self.impair(&links, Trouble::Narrow { bytes_per_second, is_uplink }, rng);
    }

    /// Makes links lose what is large, or what is not urgent.
    pub(super) fn sieve(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let links = if rng.bool() {
            Links::of(self.plan.nodes, |from, _| from == node)
        } else {
            let shape = rng.choice(Shape::PARTIAL).expect("there are some");
            shape.draw(self.plan.nodes, &self.present(), node, rng).others()
        };
        let trouble = if rng.bool() {
            self.seen.add(Occurrence::MadeSmall);
            Trouble::LosesLarge(LARGE_BYTES << rng.u32(..4))
        } else {
            self.seen.add(Occurrence::MadeUrgent);
            Trouble::ControlOnly
        };
        self.impair(&links, trouble, rng);
    }

    /// These links get into trouble, beside those that are in it already or in their place.
    fn impair(&mut self, links: &Links, trouble: Trouble, rng: &mut fastrand::Rng) {
        if rng.bool() {
            self.network.mend();
        }
        let end = self.now + self.while_lasting(rng);
        let stagger = if rng.bool() { Duration::ZERO } else { self.while_lasting(rng) };
        self.trace.note(self.now, [11, end.as_nanos() as u64, stagger.as_nanos() as u64], || {
            format!("{trouble:?} until {:.6} and up to {stagger:?} on: {links}", end.as_secs_f64())
        });
        self.network.trouble(links, trouble, || end + stagger.mul_f64(rng.f64()));
    }
}
