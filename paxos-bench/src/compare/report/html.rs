//! The page for a browser: one file, nothing fetched from anywhere.

use std::fmt::{self, Write};

use super::{
    Report, chart,
    table::{ratios, runtime},
};
use crate::{
    compare::{Cell, CellSummary, Contestant},
    number::{rate, short},
    page::{STYLE, escaped},
};

const HOW: &str = "\
Commands per second that were committed and applied and whose client had its answer; all replicas in \
one process, transport and storage in memory, every client waits for its answer before it proposes \
again. The bar is the median of the rounds, the line spans from the slowest to the fastest; the \
contestants took turns. In mode <i>tasks</i> each contestant is shown in the tokio runtime in which it \
is faster. <i>Echo</i> is one task that answers at once and replicates nothing: the limit for whatever \
is behind an awaited call. In mode <i>protocol</i> one thread drives all replicas and passes their \
messages by hand.";

impl Report {
    /// The same with charts, as a page that needs nothing but itself.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = String::new();
        write_page(self, &mut page).expect("a string takes whatever it is given");
        page
    }
}

fn write_page(report: &Report, page: &mut String) -> fmt::Result {
    writeln!(page, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">")?;
    writeln!(page, "<title>paxos-bench compare</title>\n<style>\n{STYLE}</style>")?;
    writeln!(page, "<h1>Side by side</h1>\n<p>{HOW}</p>")?;
    environment(report, page)?;
    if let Some(why) = &report.ended_early {
        writeln!(page, "<p class=\"warning\">Ended early: {}</p>", escaped(why))?;
    }
    let mut cells = report.cells.as_slice();
    while let Some(first) = cells.first() {
        // The conditions that only differ in what is in flight share a heading.
        let alike = |cell: &CellSummary| Cell { in_flight: 0, ..cell.cell };
        let count = cells.iter().take_while(|cell| alike(cell) == alike(first)).count();
        let (together, rest) = cells.split_at(count);
        section(together, page)?;
        cells = rest;
    }
    details(report, page)?;
    writeln!(page, "</html>")
}

fn environment(report: &Report, page: &mut String) -> fmt::Result {
    writeln!(page, "<table>")?;
    let command = ("command", report.command.clone());
    for (name, value) in report.environment.rows().into_iter().chain([command]) {
        writeln!(page, "<tr><th>{name}</th><td class=\"name\">{}</td></tr>", escaped(&value))?;
    }
    let versions = report
        .contestants
        .iter()
        .filter_map(|(contestant, version)| Some(format!("{contestant} {}", (*version)?)));
    let versions = versions.collect::<Vec<_>>().join(", ");
    writeln!(page, "<tr><th>versions</th><td class=\"name\">{versions}</td></tr>\n</table>")?;
    for warning in report.environment.warnings() {
        writeln!(page, "<p class=\"warning\">Warning: {}</p>", escaped(&warning))?;
    }
    Ok(())
}

/// A chart for each number of commands in flight.
fn section(cells: &[CellSummary], page: &mut String) -> fmt::Result {
    let Some(CellSummary { cell: Cell { mode, nodes, payload, .. }, .. }) = cells.first() else {
        return Ok(());
    };
    writeln!(page, "<h2>{mode}, {nodes} nodes, {payload} B</h2>\n<div class=\"charts\">")?;
    for cell in cells {
        let [best, of_echo] = ratios(cell);
        writeln!(page, "<figure>\n{}", chart::bars(cell))?;
        write!(page, "<figcaption>{} in flight", cell.cell.in_flight)?;
        if cell.best_peer.is_some() {
            write!(page, "; ours is {best}")?;
        }
        if cell.of_echo.is_some() {
            write!(page, ", {of_echo} × echo")?;
        }
        writeln!(page, "</figcaption>\n</figure>")?;
    }
    writeln!(page, "</div>")
}

fn details(report: &Report, page: &mut String) -> fmt::Result {
    writeln!(
        page,
        "<h2>All figures</h2>\n<p class=\"soft\">The runtime that counts is marked.</p>"
    )?;
    writeln!(page, "<div class=\"scroll\"><table>\n<tr>")?;
    let names = [
        "conditions",
        "contestant",
        "runtime",
        "commands/s",
        "slowest",
        "fastest",
        "CPU µs",
        "p50 µs",
        "p99 µs",
    ];
    for name in names {
        write!(page, "<th>{name}</th>")?;
    }
    writeln!(page, "</tr>")?;
    for cell in &report.cells {
        for standing in &cell.standings {
            let class =
                if standing.contestant == Contestant::Ours { " class=\"ours\"" } else { "" };
            let mark = if standing.counts { " ✓" } else { "" };
            let rates = standing.commands_per_second;
            write!(page, "<tr{class}><td>{}</td>", cell.cell)?;
            write!(page, "<td class=\"name\">{}</td>", standing.contestant)?;
            for value in [
                format!("{}{mark}", runtime(standing.runtime)),
                rate(rates.median),
                rate(rates.min),
                rate(rates.max),
                short(standing.cpu_us_per_command.median),
                short(standing.p50_us),
                short(standing.p99_us),
            ] {
                write!(page, "<td>{value}</td>")?;
            }
            writeln!(page, "</tr>")?;
        }
    }
    writeln!(page, "</table></div>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Environment,
        compare::{Entrant, Figures, Flavour, Measured, Mode, Sample, sample},
    };

    fn measured(in_flight: usize) -> Measured {
        let figures = [Contestant::Ours, Contestant::RaftRs].map(|contestant| {
            let mut figures = Figures::new(Entrant { contestant, flavour: Flavour::CurrentThread });
            let second = std::time::Duration::from_secs(1);
            let latencies = sample::latencies();
            let commands = 1000 * in_flight as u64;
            figures.add(&Sample { commands, elapsed: second, cpu: second, latencies });
            figures
        });
        (Cell { mode: Mode::Tasks, nodes: 3, payload: 16, in_flight }, figures.into())
    }

    /// Whether every tag is closed, in order.
    fn is_balanced(page: &str) -> bool {
        const VOID: [&str; 4] = ["!doctype", "meta", "line", "rect"];
        let mut open = Vec::new();
        for tag in page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()) {
            let name = tag.split_ascii_whitespace().next().unwrap_or_default();
            if let Some(closed) = name.strip_prefix('/') {
                if open.pop() != Some(closed) {
                    return false;
                }
            } else if !VOID.contains(&name) && !tag.ends_with('/') {
                open.push(name);
            }
        }
        open.is_empty()
    }

    #[test]
    fn the_page_is_balanced_and_has_every_cell() {
        let measured: Vec<_> = [1, 64, 1024].map(measured).into();
        let mut report = Report::new(Environment::look(), "a & <b>".to_owned(), &measured);
        report.ended_early = Some("<Ctrl-C>".to_owned());
        let page = report.html();
        assert!(is_balanced(&page), "{page}");
        assert_eq!(page.matches("<svg").count(), 3);
        for (cell, _) in &measured {
            assert!(page.contains(&format!("<td>{cell}</td>")), "{cell}");
            assert!(page.contains(&format!("<figcaption>{} in flight", cell.in_flight)));
        }
        assert!(page.contains("a &amp; &lt;b&gt;") && page.contains("&lt;Ctrl-C&gt;"));
        assert!(!page.contains("http"), "nothing is fetched");
        assert!(!is_balanced("<p><b></p></b>") && !is_balanced("<p>"));
    }
}
