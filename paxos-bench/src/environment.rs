//! Where figures come from: without it they mean nothing.

use std::{fmt, fs, process::Command};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The machine, the build and the moment.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// When it was looked at, in UTC.
    pub date: String,
    /// The commit of the working directory, and whether anything has been changed since; empty
    /// outside a repository.
    pub commit: String,
    /// The compiler.
    pub rustc: &'static str,
    /// How it was told to optimise.
    pub opt_level: &'static str,
    /// The processor's name.
    pub cpu: String,
    /// How many of its threads this process may use.
    pub cores: usize,
    /// The operating system.
    pub kernel: String,
    /// How many processes wanted to run during the last minute, this one not yet among them.
    pub load: String,
}

impl Environment {
    /// Looks around.
    #[must_use]
    pub fn look() -> Environment {
        let now =
            OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let field = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpu_info = field("/proc/cpuinfo");
        let cpu = cpu_info.lines().find_map(|line| line.strip_prefix("model name"));
        let unknown = "unknown processor";
        Environment {
            date: now.format(&Rfc3339).unwrap_or_default(),
            commit: commit().unwrap_or_default(),
            rustc: env!("PAXOS_BENCH_RUSTC"),
            opt_level: env!("PAXOS_BENCH_OPT_LEVEL"),
            cpu: cpu.map_or(unknown, |cpu| cpu.trim_start_matches([' ', '\t', ':'])).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            kernel: format!("{} {}", std::env::consts::OS, field("/proc/sys/kernel/osrelease")),
            load: field("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// Its rows: a name and what is to be said.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, String); 7] {
        [
            ("date", self.date.clone()),
            ("commit", self.commit.clone()),
            ("compiler", format!("{}, opt-level {}", self.rustc, self.opt_level)),
            ("processor", self.cpu.clone()),
            ("cores", self.cores.to_string()),
            ("kernel", self.kernel.clone()),
            ("load before", self.load.clone()),
        ]
    }

    /// What makes figures worthless, in words.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.opt_level != "3" {
            warnings.push("not optimised: build with --release".to_owned());
        }
        if self.load.parse::<f64>().is_ok_and(|load| load > 0.5) {
            warnings.push(format!("the machine was busy (load {}) before this run", self.load));
        }
        warnings
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.rows() {
            writeln!(f, "{name:<12} {value}")?;
        }
        for warning in self.warnings() {
            writeln!(f, "warning      {warning}")?;
        }
        Ok(())
    }
}

fn commit() -> Option<String> {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let output = git.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
