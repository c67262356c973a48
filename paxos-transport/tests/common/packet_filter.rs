//! Packets that get lost without a word, no error and no reset, as when a switch fails or the MTU of a path
//! has shrunk: by a packet filter, in network namespaces of its own. Root alone can have them.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// All of this that has to work, tried in a namespace that is gone afterwards.
const TRIAL: &str = "ip link set lo up && nft add table inet trial";

/// Takes this thread, and all that it starts from now on, into a network namespace in which there is nothing
/// but a loopback interface.
///
/// # Errors
///
/// If that, or a packet filter, cannot be had here; nothing has changed then.
pub(crate) fn enter_namespace() -> io::Result<()> {
    run(Command::new("unshare").args(["--net", "sh", "-c", TRIAL]), "")?;
    leave_network()?;
    run(Command::new("ip").args(["link", "set", "lo", "up"]), "").map(drop)
}

#[cfg(target_os = "linux")]
fn leave_network() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?)
}

#[cfg(not(target_os = "linux"))]
fn leave_network() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Loses packets that come into a namespace, and counts them.
#[derive(Debug)]
pub(crate) struct PacketFilter {
    namespace: Option<PathBuf>,
}

impl PacketFilter {
    /// Of the namespace that this thread is in, or of one that a file stands for. Loses nothing yet.
    pub(crate) fn new(namespace: Option<&Path>, counters: &[&str]) -> io::Result<PacketFilter> {
        let filter = PacketFilter { namespace: namespace.map(Path::to_owned) };
        let counters: String =
            counters.iter().map(|name| format!("add counter inet loss {name}\n")).collect();
        let chain = "{ type filter hook input priority 0 ; }";
        filter
            .nft(&format!("add table inet loss\nadd chain inet loss input {chain}\n{counters}"))?;
        Ok(filter)
    }

    /// Loses the packets that are described, in the words of `nft`, from now on; they count under this name.
    pub(crate) fn lose(&self, packets: &str, counter: &str) -> io::Result<()> {
        self.nft(&format!("add rule inet loss input {packets} counter name {counter} drop"))
            .map(drop)
    }

    /// Loses no more.
    pub(crate) fn lose_nothing(&self) -> io::Result<()> {
        self.nft("flush chain inet loss input").map(drop)
    }

    /// How many packets have been lost under this name.
    pub(crate) fn lost(&self, counter: &str) -> io::Result<u64> {
        let listed = self.nft(&format!("list counter inet loss {counter}"))?;
        let count = listed.split_whitespace().skip_while(|word| *word != "packets").nth(1);
        let count = count.and_then(|count| count.parse().ok());
        count.ok_or_else(|| io::Error::other(format!("no count of packets in {listed:?}")))
    }

    fn nft(&self, commands: &str) -> io::Result<String> {
        let mut command = match &self.namespace {
            None => Command::new("nft"),
            Some(namespace) => within(namespace, "nft"),
        };
        run(command.args(["-f", "-"]), commands)
    }
}

/// A program in the namespace that a file stands for.
pub(crate) fn within(namespace: &Path, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).arg(program);
    command
}

/// Runs a program on this input to its end, and returns what it says.
///
/// # Errors
///
/// If it ends with an error; then what it says of that.
pub(crate) fn run(command: &mut Command, input: &str) -> io::Result<String> {
    let name = command.get_program().to_owned();
    let failed = |error: String| io::Error::other(format!("{}: {error}", name.display()));
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    child.stdin.take().expect("it is piped").write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
