//! Two tables for the terminal: who is how fast, and the details.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use super::Report;
use crate::{
    compare::{Cell, CellSummary, Flavour},
    number::{rate, short},
};

const NOTHING: &str = "–";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.environment)?;
        writeln!(f, "{}\n", self.rates())?;
        writeln!(f, "{}", self.details())?;
        if let Some(why) = &self.ended_early {
            writeln!(f, "\nended early: {why}")?;
        }
        Ok(())
    }
}

impl Report {
    /// Commands per second, a row for each cell.
    fn rates(&self) -> Table {
        let mut header = conditions_header();
        header.extend(self.contestants.iter().map(|(contestant, version)| match version {
            Some(version) => format!("{contestant} {version}"),
            None => contestant.to_string(),
        }));
        header.extend(["ours / best peer".to_owned(), "ours / echo".to_owned()]);
        let mut table = table(header);
        for cell in &self.cells {
            let mut row = conditions(&cell.cell);
            row.extend(
                self.contestants
                    .iter()
                    .map(|(contestant, _)| cell.rate(*contestant).map_or(NOTHING.to_owned(), rate)),
            );
            row.extend(ratios(cell));
            table.add_row(row);
        }
        table
    }

    /// Everything else, a row for each contestant in each cell.
    fn details(&self) -> Table {
        let mut header = conditions_header();
        let names =
            ["contestant", "runtime", "commands/s (min – max)", "CPU µs", "p50 µs", "p99 µs"];
        header.extend(names.map(str::to_owned));
        let mut table = table(header);
        for cell in &self.cells {
            for standing in cell.standings.iter().filter(|standing| standing.counts) {
                let mut row = conditions(&cell.cell);
                let rates = standing.commands_per_second;
                let (min, max) = (rate(rates.min), rate(rates.max));
                row.extend([
                    standing.contestant.to_string(),
                    runtime(standing.runtime),
                    format!("{} ({min} – {max})", rate(rates.median)),
                    short(standing.cpu_us_per_command.median),
                    short(standing.p50_us),
                    short(standing.p99_us),
                ]);
                table.add_row(row);
            }
        }
        table
    }
}

/// How this project compares: with the best peer, with the limit.
pub(super) fn ratios(cell: &CellSummary) -> [String; 2] {
    let best = cell.best_peer.map(|(peer, ratio)| format!("{} × {peer}", short(ratio)));
    let of_echo = cell.of_echo.map(short);
    [best, of_echo].map(|ratio| ratio.unwrap_or_else(|| NOTHING.to_owned()))
}

/// The runtime, where there is one.
pub(super) fn runtime(flavour: Flavour) -> String {
    if flavour == Flavour::Alone { NOTHING.to_owned() } else { flavour.to_string() }
}

fn conditions_header() -> Vec<String> {
    ["mode", "nodes", "payload", "in flight"].map(str::to_owned).into()
}

fn conditions(cell: &Cell) -> Vec<String> {
    let Cell { mode, nodes, payload, in_flight } = cell;
    vec![mode.to_string(), nodes.to_string(), format!("{payload} B"), in_flight.to_string()]
}

fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
