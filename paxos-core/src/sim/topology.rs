//! Sets of directed links between nodes, and the shapes that networks fall into when they are only
//! partly connected.

use std::fmt;

use super::occurrence::Occurrence;

/// A set of directed links.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Links {
    nodes: usize,
    present: Vec<bool>,
}

impl Links {
    /// Those, both directions apart, that `keep` names.
    pub(super) fn of(nodes: usize, keep: impl Fn(usize, usize) -> bool) -> Links {
        let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        Links { nodes, present: pairs.map(|(from, to)| from != to && keep(from, to)).collect() }
    }

    /// All of them.
    pub(super) fn all(nodes: usize) -> Links {
        Links::of(nodes, |_, _| true)
    }

    /// Both directions between these pairs of nodes.
    fn between(nodes: usize, pairs: &[(usize, usize)]) -> Links {
        Links::of(nodes, |from, to| pairs.contains(&(from, to)) || pairs.contains(&(to, from)))
    }

    /// Each node of `order`, out of so many, reaches the one before it and the one behind it.
    pub(super) fn chain(nodes: usize, order: &[usize]) -> Links {
        let pairs: Vec<_> = order.windows(2).map(|pair| (pair[0], pair[1])).collect();
        Links::between(nodes, &pairs)
    }

    /// Whether the link is among them.
    pub(super) fn contains(&self, from: usize, to: usize) -> bool {
        self.present[from * self.nodes + to]
    }

    /// Takes a link out.
    pub(super) fn remove(&mut self, from: usize, to: usize) {
        self.present[from * self.nodes + to] = false;
    }

    /// Those that are not among them.
    pub(super) fn others(&self) -> Links {
        Links::of(self.nodes, |from, to| !self.contains(from, to))
    }

    /// Each of them, in a fixed order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let indices = (0..self.present.len()).filter(|&index| self.present[index]);
        indices.map(|index| (index / self.nodes, index % self.nodes))
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links: Vec<_> =
            self.iter().map(|(from, to)| format!("{}->{}", from + 1, to + 1)).collect();
        f.write_str(if links.is_empty() { "none" } else { "" })?;
        f.write_str(&links.join(" "))
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Links({self})")
    }
}

/// What is left of a network that is only partly connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Groups without a link between them.
    Islands,
    /// One node hears some of the others and is not heard by them, or the other way round.
    OneWay,
    /// Two groups that have one node in common.
    Bridge,
    /// Each node reaches the one before it and the one behind it.
    Chain,
    /// All reach one node and no other.
    Hub,
    /// Each node reaches a majority, no two the same one.
    Ring,
    /// Any links, in pairs or by themselves.
    Random,
}

impl Shape {
    /// Those in which everybody may reach everybody, by way of others.
    pub(super) const PARTIAL: [Shape; 6] =
        [Shape::OneWay, Shape::Bridge, Shape::Chain, Shape::Hub, Shape::Ring, Shape::Random];

    /// Counts it.
    pub(super) fn occurrence(self) -> Occurrence {
        match self {
            Shape::Islands => Occurrence::CutIntoIslands,
            Shape::OneWay => Occurrence::CutOneWay,
            Shape::Bridge => Occurrence::CutToBridge,
            Shape::Chain => Occurrence::CutToChain,
            Shape::Hub => Occurrence::CutToHub,
            Shape::Ring => Occurrence::CutToRing,
            Shape::Random => Occurrence::CutAtRandom,
        }
    }

    /// The links that are left of those between so many `nodes`, around `center` if the shape has one, and of
    /// `those` that it puts in an order.
    pub(super) fn draw(
        self,
        nodes: usize,
        those: &[usize],
        center: usize,
        rng: &mut fastrand::Rng,
    ) -> Links {
        let mut order = those.to_vec();
        rng.shuffle(&mut order);
        match self {
            Shape::Islands => {
                let islands = rng.usize(2..4);
                let island: Vec<_> = (0..nodes).map(|_| rng.usize(..islands)).collect();
                Links::of(nodes, |from, to| island[from] == island[to])
            }
            Shape::OneWay => {
                let (hears, all) = (rng.bool(), rng.bool());
                let meets: Vec<_> = (0..nodes).map(|_| all || rng.bool()).collect();
                Links::of(nodes, |from, to| {
                    let (deaf, mute) = if hears { (from, to) } else { (to, from) };
                    deaf != center || !meets[mute]
                })
            }
            Shape::Bridge => {
                let side: Vec<_> = (0..nodes).map(|_| rng.bool()).collect();
                Links::of(nodes, |from, to| {
                    side[from] == side[to] || from == center || to == center
                })
            }
            Shape::Chain => Links::chain(nodes, &order),
            Shape::Hub => Links::of(nodes, |from, to| from == center || to == center),
            Shape::Ring => {
                // As many neighbours on either side as a majority needs.
                let count = order.len();
                let reach = (count / 2).div_ceil(2).max(1);
                let pairs: Vec<_> = (0..count)
                    .flat_map(|at| (1..=reach).map(move |step| (at, (at + step) % count)))
                    .map(|(one, other)| (order[one], order[other]))
                    .collect();
                Links::between(nodes, &pairs)
            }
            Shape::Random => {
                let (rate, in_pairs) = (rng.f64(), rng.bool());
                let works: Vec<_> = (0..nodes * nodes).map(|_| rng.f64() > rate).collect();
                Links::of(nodes, |from, to| {
                    let (row, column) =
                        if in_pairs { (from.min(to), from.max(to)) } else { (from, to) };
                    works[row * nodes + column]
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbours(links: &Links, node: usize) -> Vec<usize> {
        (0..links.nodes).filter(|&other| links.contains(node, other)).collect()
    }

    #[test]
    fn each_shape_is_what_its_name_says() {
        let mut rng = fastrand::Rng::with_seed(1);
        for nodes in [3, 5, 7] {
            let all: Vec<_> = (0..nodes).collect();
            for center in 0..nodes {
                let mut draw = |shape: Shape| shape.draw(nodes, &all, center, &mut rng);
                let hub = draw(Shape::Hub);
                for node in (0..nodes).filter(|&node| node != center) {
                    assert_eq!(neighbours(&hub, node), [center]);
                }
                assert_eq!(neighbours(&hub, center).len(), nodes - 1);

                let chain = draw(Shape::Chain);
                let mut degrees: Vec<_> =
                    (0..nodes).map(|node| neighbours(&chain, node).len()).collect();
                degrees.sort_unstable();
                assert_eq!(degrees[..3], [1, 1, 2]);
                assert!(degrees[2..].iter().all(|&degree| degree == 2));

                let ring = draw(Shape::Ring);
                for node in 0..nodes {
                    let reached = neighbours(&ring, node).len() + 1;
                    assert!(2 * reached > nodes, "{reached} of {nodes}");
                }

                let one_way = draw(Shape::OneWay).others();
                let (from, to): (Vec<_>, Vec<_>) = one_way.iter().unzip();
                let of_center = |side: &[usize]| side.iter().all(|&node| node == center);
                assert!(of_center(&from) || of_center(&to), "{one_way}");
            }
        }
    }

    #[test]
    fn islands_have_no_link_between_them() {
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..100 {
            let links = Shape::Islands.draw(5, &[], 0, &mut rng);
            for (from, to) in links.iter() {
                assert!(links.contains(to, from));
                for third in neighbours(&links, to) {
                    assert!(third == from || links.contains(from, third));
                }
            }
        }
    }
}
