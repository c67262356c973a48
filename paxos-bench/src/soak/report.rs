//! What a run has shown: lines of CSV as it goes on, a page with charts at its end.

use std::fmt::{self, Write};

use super::chart::{Line, lines};
use crate::{
    Disk, Environment,
    number::{rate, short},
    page::{STYLE, escaped},
};

const LINE_STYLE: &str = "\
svg polyline { fill: none; stroke-width: 1.4 } svg .axis { font-size: 11px; fill: var(--soft) }
svg .grid { stroke: var(--line); stroke-width: 1 } svg .mark { stroke: var(--soft); stroke-dasharray: 2 3 }
.m0 { stroke: #c2410c; color: #c2410c } .m1 { stroke: #2563eb; color: #2563eb }
.m2 { stroke: #15803d; color: #15803d } figure { margin-bottom: 1rem }
";

const HOW: &str = "\
Three servers in processes of their own on one machine, log and state in files; every client waits for \
its answer before it puts the next value. Dashed: a member has been killed and is ready again. A gap in \
a line of memory: the member is away.";

/// A caption, the lines' values, and how they are written at the axis.
type Chart = (&'static str, fn(&Sample) -> Vec<f64>, fn(f64) -> String);

/// What the first part of a run is, in which everything grows to what it will be.
const WARM_UP: f64 = 0.2;

/// Everything at one time.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Since the clients began.
    pub seconds: f64,
    /// Answered so far.
    pub commands: u64,
    /// Since the sample before.
    pub commands_per_second: f64,
    /// Of the commands since the sample before, in milliseconds.
    pub p99_ms: f64,
    /// Commands without an answer since the sample before.
    pub failed: u64,
    /// Of each member's log on its disk.
    pub log_bytes: Vec<u64>,
    /// Of each member's state on its disk.
    pub state_bytes: Vec<u64>,
    /// Each member's memory in use; 0 while it is away.
    pub resident_bytes: Vec<u64>,
}

/// A member that was killed and has come back.
#[derive(Clone, Debug)]
pub struct Restart {
    /// When it was ready again.
    pub seconds: f64,
    /// Which.
    pub member: String,
    /// How long there was no process of it.
    pub away_seconds: f64,
    /// From the start of its process to its answer to a linearizable read.
    pub ready_seconds: f64,
    /// How many states it has got from others on the way.
    pub states_taken_over: usize,
}

/// A run so far.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where it was made.
    pub environment: Environment,
    /// On which disk.
    pub disk: Disk,
    /// The command line.
    pub command: String,
    /// In their order.
    pub samples: Vec<Sample>,
    /// In their order.
    pub restarts: Vec<Restart>,
}

impl Report {
    /// Of a run that begins.
    #[must_use]
    pub fn new(environment: Environment, disk: Disk, command: String) -> Report {
        Report { environment, disk, command, samples: Vec::new(), restarts: Vec::new() }
    }

    /// The names of the columns of [`csv`](Report::csv).
    #[must_use]
    pub fn csv_head(members: usize) -> String {
        let mut head = "seconds,commands,commands_per_second,p99_ms,failed".to_owned();
        for name in ["log_bytes", "state_bytes", "resident_bytes"] {
            for member in 1..=members {
                let _ = write!(head, ",{name}_{member}");
            }
        }
        head
    }

    /// All samples.
    #[must_use]
    pub fn csv(&self) -> String {
        let members = self.samples.first().map_or(0, |sample| sample.log_bytes.len());
        let mut csv = Report::csv_head(members) + "\n";
        for sample in &self.samples {
            let _ = writeln!(csv, "{sample}");
        }
        csv
    }

    /// The page: one file, nothing fetched from anywhere.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = String::new();
        self.write_page(&mut page).expect("a string takes whatever it is given");
        page
    }

    fn write_page(&self, page: &mut String) -> fmt::Result {
        writeln!(page, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">")?;
        writeln!(page, "<title>paxos-bench soak</title>\n<style>\n{STYLE}{LINE_STYLE}</style>")?;
        writeln!(page, "<h1>Hours of load</h1>\n<p>{HOW}</p>\n<table>")?;
        let more = [
            ("fdatasync", format!("{:.0} µs", self.disk.fdatasync_us)),
            ("command", self.command.clone()),
        ];
        for (name, value) in self.environment.rows().into_iter().chain(more) {
            writeln!(page, "<tr><th>{name}</th><td class=\"name\">{}</td></tr>", escaped(&value))?;
        }
        writeln!(page, "</table>")?;
        let charts: [Chart; 5] = [
            ("Commands per second", |sample| vec![sample.commands_per_second], rate),
            ("99th percentile of latencies, in milliseconds", |sample| vec![sample.p99_ms], short),
            ("Log on disk, in MiB, per member", |sample| mib(&sample.log_bytes), short),
            ("State on disk, in MiB, per member", |sample| mib(&sample.state_bytes), short),
            ("Resident memory, in MiB, per member", |sample| mib(&sample.resident_bytes), short),
        ];
        for (title, values, show) in charts {
            writeln!(page, "<figure>\n<figcaption>{title}</figcaption>")?;
            writeln!(page, "{}\n</figure>", self.chart(values, show))?;
        }
        self.legend(page)?;
        self.levels(page)?;
        self.write_restarts(page)?;
        writeln!(page, "</html>")
    }

    fn chart(&self, values: fn(&Sample) -> Vec<f64>, show: fn(f64) -> String) -> String {
        let count = self.samples.first().map_or(0, |sample| values(sample).len());
        let classes = ["m0", "m1", "m2"];
        let drawn: Vec<_> = (0..count)
            .map(|member| Line {
                class: classes[member % classes.len()],
                points: self
                    .samples
                    .iter()
                    .map(|sample| (sample.seconds, values(sample).get(member).copied()))
                    // A member that is away has no memory.
                    .map(|(seconds, value)| (seconds, value.filter(|value| *value > 0.0)))
                    .collect(),
            })
            .collect();
        let marks: Vec<_> = self.restarts.iter().map(|restart| restart.seconds).collect();
        lines(&drawn, &marks, show)
    }

    fn legend(&self, page: &mut String) -> fmt::Result {
        let members = self.samples.first().map_or(0, |sample| sample.log_bytes.len());
        write!(page, "<p>")?;
        for member in 0..members {
            write!(page, "<b class=\"m{}\">n{}</b> ", member % 3, member + 1)?;
        }
        writeln!(page, "</p>")
    }

    /// The mean of a figure over two thirds of what follows the warm-up: the first and the last.
    fn levels(&self, page: &mut String) -> fmt::Result {
        writeln!(
            page,
            "<h2>Level?</h2>\n<p class=\"soft\">Means of three equal parts of the run without \
            its first fifth, in MiB but for the rate.</p>\n<table>"
        )?;
        writeln!(
            page,
            "<tr><th>figure</th><th>first</th><th>second</th><th>third</th><th>most</th></tr>"
        )?;
        for (name, parts, most) in self.parts() {
            write!(page, "<tr><td>{name}</td>")?;
            for value in parts.into_iter().chain([most]) {
                write!(page, "<td>{}</td>", short(value))?;
            }
            writeln!(page, "</tr>")?;
        }
        writeln!(page, "</table>")
    }

    /// Each figure with its mean in three parts of the run, and its maximum.
    #[must_use]
    pub fn parts(&self) -> Vec<(String, [f64; 3], f64)> {
        let warm = (self.samples.len() as f64 * WARM_UP) as usize;
        let rest = &self.samples[warm.min(self.samples.len())..];
        let members = self.samples.first().map_or(0, |sample| sample.log_bytes.len());
        type Figure = Box<dyn Fn(&Sample) -> f64>;
        let mut figures: Vec<(String, Figure)> =
            vec![("commands/s".to_owned(), Box::new(|sample| sample.commands_per_second))];
        for member in 0..members {
            let of = |values: &[u64], member: usize| mib(values)[member];
            let name = |figure: &str| format!("{figure}, n{}", member + 1);
            figures.push((name("log"), Box::new(move |sample| of(&sample.log_bytes, member))));
            figures.push((name("state"), Box::new(move |sample| of(&sample.state_bytes, member))));
            let resident = move |sample: &Sample| of(&sample.resident_bytes, member);
            figures.push((name("memory"), Box::new(resident)));
        }
        let third = rest.len().div_ceil(3).max(1);
        let row = |(name, figure): (String, Figure)| {
            let mut means = [0.0; 3];
            for (mean, part) in means.iter_mut().zip(rest.chunks(third)) {
                // A member that is away has no memory.
                let values: Vec<_> =
                    part.iter().map(&figure).filter(|value| *value > 0.0).collect();
                *mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            }
            let most = self.samples.iter().map(&figure).fold(0.0, f64::max);
            (name, means, most)
        };
        figures.into_iter().map(row).collect()
    }

    fn write_restarts(&self, page: &mut String) -> fmt::Result {
        writeln!(page, "<h2>Restarts</h2>\n<table>\n<tr><th>at</th><th>member</th>")?;
        writeln!(page, "<th>away s</th><th>ready after s</th><th>states from others</th></tr>")?;
        for restart in &self.restarts {
            let Restart { seconds, member, away_seconds, ready_seconds, states_taken_over } =
                restart;
            writeln!(
                page,
                "<tr><td>{:.1} min</td><td>{member}</td><td>{away_seconds:.0}</td>\
                 <td>{ready_seconds:.2}</td><td>{states_taken_over}</td></tr>",
                seconds / 60.0
            )?;
        }
        writeln!(page, "</table>")
    }
}

/// A line of CSV.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample { seconds, commands, commands_per_second, p99_ms, failed, .. } = self;
        write!(f, "{seconds:.1},{commands},{commands_per_second:.0},{p99_ms:.1},{failed}")?;
        let figures = [&self.log_bytes, &self.state_bytes, &self.resident_bytes];
        figures.into_iter().flatten().try_for_each(|figure| write!(f, ",{figure}"))
    }
}

fn mib(bytes: &[u64]) -> Vec<f64> {
    bytes.iter().map(|bytes| *bytes as f64 / f64::from(1 << 20)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        std::fs::create_dir_all(&directory).expect("a directory");
        let disk = Disk::look(&directory).expect("a disk");
        let mut report = Report::new(Environment::look(), disk, "a & <b>".to_owned());
        for number in 0..20_u64 {
            report.samples.push(Sample {
                seconds: number as f64,
                commands: number * 10,
                commands_per_second: 10.0,
                p99_ms: 1.0,
                failed: 0,
                log_bytes: vec![number << 20; 3],
                state_bytes: vec![5 << 20; 3],
                resident_bytes: vec![0, 1 << 20, 2 << 20],
            });
        }
        let member = "n2".to_owned();
        let (away_seconds, ready_seconds, states_taken_over) = (2.0, 0.5, 1);
        let seconds = 3.0;
        let restart = Restart { seconds, member, away_seconds, ready_seconds, states_taken_over };
        report.restarts.push(restart);
        report
    }

    #[test]
    fn the_page_has_a_chart_for_each_figure_and_fetches_nothing() {
        let page = report().html();
        assert_eq!(page.matches("<svg").count(), 5);
        assert_eq!(page.matches("class=\"mark\"").count(), 5);
        assert!(page.contains("a &amp; &lt;b&gt;") && !page.contains("http"));
    }

    #[test]
    fn every_sample_is_a_line_with_all_columns() {
        let csv = report().csv();
        let columns: Vec<_> = csv.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns, [14; 21]);
    }

    #[test]
    fn what_grows_shows_in_the_parts_and_what_is_level_too() {
        let parts = report().parts();
        let of = |name: &str| parts.iter().find(|part| part.0 == name).expect("a figure").1;
        assert!(of("log, n1")[2] > of("log, n1")[0] + 5.0);
        assert_eq!(of("state, n3"), [5.0; 3]);
    }
}
