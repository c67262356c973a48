//! Where servers, and the proxies that stand for them, have their addresses; and packets between them that get
//! lost on the way.
//!
//! Where this test may have network namespaces, each server is on a host of its own, joined to the others by
//! the proxies alone, unless there are none; so the packets of a server are known by their addresses, and the kernels at both ends of
//! a connection know nothing of one that is lost. Elsewhere all are on one host, and nothing gets lost.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use super::{
    faults::effect,
    network::Pair,
    packet_filter::{PacketFilter, run, within},
};

/// More than heartbeats and votes take, and less than what a path carries whose MTU has shrunk.
const LARGE_BYTES: usize = 1300;

/// Whether this host passes on what is for others.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Which packets get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Those above [`LARGE_BYTES`].
    Large,
    /// All.
    All,
}

impl Lost {
    /// What the filter counts them under, and what the report does.
    const COUNTERS: [(&str, &str); 2] =
        [("large", effect::DROPPED_FOR_SIZE), ("silent", effect::DROPPED_IN_SILENCE)];
}

/// The hosts of a cluster.
#[derive(Debug)]
pub(crate) enum Hosts {
    /// One for all.
    Shared,
    /// One for each server, and that of this test, which they reach the others by.
    Separate { servers: Vec<Host>, filter: PacketFilter },
}

/// A host of its own.
#[derive(Debug)]
pub(crate) struct Host {
    /// Stands for the namespace.
    file: PathBuf,
    /// The interface of this test that leads there.
    interface: String,
    net: [u8; 2],
    filter: PacketFilter,
}

/// Clusters have numbers, which are part of their addresses.
static CLUSTERS: AtomicU8 = AtomicU8::new(1);

impl Hosts {
    /// So many separate ones; what stands for them is in `directory`.
    pub(crate) fn separate(servers: usize, directory: &Path) -> io::Result<Hosts> {
        let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let hosts = (0..servers).map(|server| Host::new(cluster, server, servers, directory));
        Ok(Hosts::Separate { servers: hosts.collect::<io::Result<_>>()?, filter: filter(None)? })
    }

    /// Where a server listens.
    pub(crate) fn server(&self, server: usize) -> IpAddr {
        self.address(server, 2)
    }

    /// Where what stands for a server listens.
    pub(crate) fn front(&self, server: usize) -> IpAddr {
        self.address(server, 1)
    }

    /// Where what passes on to the second what the first has said comes from.
    pub(crate) fn stand(&self, (from, to): Pair) -> IpAddr {
        self.address(to, Host::stand(from))
    }

    fn address(&self, server: usize, part: u8) -> IpAddr {
        match self {
            Hosts::Shared => shared(),
            Hosts::Separate { servers, .. } => servers[server].address(part).into(),
        }
    }

    /// A program on the host of a server.
    pub(crate) fn command(&self, server: usize, program: &str) -> Command {
        match self {
            Hosts::Shared => Command::new(program),
            Hosts::Separate { servers, .. } => within(&servers[server].file, program),
        }
    }

    /// Lets servers reach each other without a proxy.
    pub(crate) fn connect(&self) -> io::Result<()> {
        match self {
            Hosts::Shared => Ok(()),
            Hosts::Separate { .. } => fs::write(FORWARDING, "1"),
        }
    }

    /// Loses packets from the first of each pair to the second, from now on.
    pub(crate) fn lose(&self, lost: Lost, pairs: &[Pair]) -> io::Result<()> {
        let between = pairs.iter().flat_map(|&(from, to)| {
            // Of the connections that the first has dialled, and the answers on those that the second has.
            [
                (self.server(from), self.front(to)),
                (self.stand((from, to)), self.server(to)),
                (self.front(from), self.server(to)),
                (self.server(from), self.stand((to, from))),
            ]
        });
        let between = between.map(|(from, to)| format!("{from} . {to}")).collect::<Vec<_>>();
        if between.is_empty() {
            return Ok(());
        }
        let packets = format!("ip saddr . ip daddr {{ {} }}", between.join(", "));
        let packets = match lost {
            Lost::Large => format!("{packets} meta length > {LARGE_BYTES}"),
            Lost::All => packets,
        };
        let (counter, _) = Lost::COUNTERS[lost as usize];
        self.filters().try_for_each(|filter| filter.lose(&packets, counter))
    }

    /// Loses no more.
    pub(crate) fn lose_nothing(&self) -> io::Result<()> {
        self.filters().try_for_each(PacketFilter::lose_nothing)
    }

    /// What has been lost, each kind with its name.
    pub(crate) fn effects(&self) -> io::Result<Vec<(&'static str, u64)>> {
        let lost = |(counter, effect)| {
            let lost = self.filters().map(|filter| filter.lost(counter));
            Ok((effect, lost.sum::<io::Result<u64>>()?))
        };
        Lost::COUNTERS.into_iter().map(lost).collect()
    }

    fn filters(&self) -> impl Iterator<Item = &PacketFilter> {
        let (servers, own) = match self {
            Hosts::Shared => (&[][..], None),
            Hosts::Separate { servers, filter } => (&servers[..], Some(filter)),
        };
        servers.iter().map(|host| &host.filter).chain(own)
    }
}

/// An address of this machine, and of this process alone where the system has enough of them: so
/// nobody takes the port of a server that is down.
fn shared() -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    let parts = if cfg!(target_os = "linux") { [127, 77, high, low] } else { [127, 0, 0, 1] };
    IpAddr::from(parts)
}

fn filter(namespace: Option<&Path>) -> io::Result<PacketFilter> {
    PacketFilter::new(namespace, &Lost::COUNTERS.map(|(counter, _)| counter))
}

impl Host {
    fn new(cluster: u8, server: usize, servers: usize, directory: &Path) -> io::Result<Host> {
        let number = u8::try_from(server).expect("a few servers");
        let file = directory.join(format!("n{}.host", server + 1));
        File::create_new(&file)?;
        // Keeps the namespace, without a process in it.
        run(Command::new("unshare").arg(format!("--net={}", file.display())).arg("true"), "")?;
        let host = Host {
            filter: filter(Some(&file))?,
            interface: format!("c{cluster}n{}", server + 1),
            net: [cluster, number],
            file,
        };
        let stands = (0..servers).map(Host::stand);
        let (front, own) = (host.address(1), host.address(2));
        let mut here = format!(
            "link add {} type veth peer name eth0 netns {}\n",
            host.interface,
            host.file.display()
        );
        for address in [1].into_iter().chain(stands) {
            here += &format!("addr add {}/24 dev {}\n", host.address(address), host.interface);
        }
        here += &format!("link set {} up\n", host.interface);
        run(Command::new("ip").args(["-batch", "-"]), &here)?;
        let there = format!(
            "link set lo up\naddr add {own}/24 dev eth0\nlink set eth0 up\nroute add default via {front}\n"
        );
        run(within(&host.file, "ip").args(["-batch", "-"]), &there)?;
        Ok(host)
    }

    fn address(&self, part: u8) -> Ipv4Addr {
        let [cluster, server] = self.net;
        Ipv4Addr::new(10, cluster, server, part)
    }

    /// What stands for a server on the networks of the others.
    fn stand(server: usize) -> u8 {
        100 + u8::try_from(server).expect("a few servers")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let gone = run(Command::new("ip").args(["link", "del", &self.interface]), "");
        let unmounted = run(Command::new("umount").arg("--lazy").arg(&self.file), "");
        if let Err(error) = gone.and(unmounted).and_then(|_| fs::remove_file(&self.file)) {
            eprintln!("{} is still there: {error}", self.file.display());
        }
    }
}
