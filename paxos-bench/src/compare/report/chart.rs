//! Bars, drawn by hand: as many as there are contestants, on a scale of their own.

use std::fmt::Write;

use crate::{
    compare::{CellSummary, Contestant},
    number::rate,
};

const WIDTH: f64 = 460.0;
const ROW: f64 = 24.0;
const BAR: f64 = 15.0;
/// Where the bars begin, behind the names.
const LEFT: f64 = 84.0;
/// How long the longest is, which leaves room for its figure.
const LENGTH: f64 = 280.0;

/// The commands per second of everybody in one cell, as an SVG.
pub(super) fn bars(cell: &CellSummary) -> String {
    let contestants = Contestant::ALL.into_iter();
    let standings: Vec<_> = contestants.filter_map(|one| cell.standing(one)).collect();
    let highest = |highest: f64, rate: f64| highest.max(rate);
    let scale = standings.iter().map(|one| one.commands_per_second.max).fold(1.0, highest);
    let height = ROW * standings.len() as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    for (row, standing) in standings.iter().enumerate() {
        let rates = standing.commands_per_second;
        let x = |rate: f64| LEFT + rate / scale * LENGTH;
        let (from, to, end) = (x(rates.min), x(rates.max), x(rates.median));
        let top = ROW * row as f64;
        let (middle, text) = (top + ROW / 2.0, top + ROW / 2.0 + 4.0);
        let class = match standing.contestant {
            Contestant::Ours => "ours",
            Contestant::Echo => "limit",
            _ => "peer",
        };
        let (name, figure) = (standing.contestant, rate(rates.median));
        let (bar, width, label) = (top + (ROW - BAR) / 2.0, end - LEFT, to + 6.0);
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "\n<text x=\"0\" y=\"{text:.0}\">{name}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{bar:.1}\" width=\"{width:.1}\" height=\"{BAR}\"/>\
             <line class=\"whisker\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle:.0}\" y2=\"{middle:.0}\"/>\
             <text x=\"{label:.1}\" y=\"{text:.0}\">{figure}</text>"
        );
    }
    svg.push_str("\n</svg>");
    svg
}
