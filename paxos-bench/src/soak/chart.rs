//! Lines over time, drawn by hand.

use std::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;

/// Lines across the chart.
const GRID: u32 = 4;

/// One line of a chart: a class for its colour, and its points.
pub(super) struct Line<'a> {
    pub(super) class: &'a str,
    /// Seconds and value; `None` where there is nothing.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// The lines on a common scale that begins at zero, with marks at some times, as an SVG.
pub(super) fn lines(lines: &[Line<'_>], marks: &[f64], show: impl Fn(f64) -> String) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|(seconds, _)| *seconds).fold(1.0, f64::max);
    let highest = points().filter_map(|(_, value)| *value).fold(0.0, f64::max);
    let top = round_up(highest);
    let x = |seconds: f64| LEFT + seconds / last * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (1.0 - value / top) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    // Writing to a string cannot fail.
    for step in 0..=GRID {
        let value = top * f64::from(step) / f64::from(GRID);
        let (at, label, right) = (y(value), show(value), WIDTH - RIGHT);
        let _ = write!(
            svg,
            "\n<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"axis\" text-anchor=\"end\" x=\"{:.0}\" y=\"{:.1}\">{label}</text>",
            LEFT - 6.0,
            at + 4.0,
        );
    }
    for mark in marks.iter().filter(|mark| **mark <= last) {
        let (at, bottom) = (x(*mark), HEIGHT - BOTTOM);
        let _ = write!(
            svg,
            "\n<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"
        );
    }
    let minutes = last / 60.0;
    for step in 0..=6 {
        let minute = minutes * f64::from(step) / 6.0;
        let (at, bottom) = (x(minute * 60.0), HEIGHT - 8.0);
        let _ = write!(
            svg,
            "\n<text class=\"axis\" text-anchor=\"middle\" x=\"{at:.0}\" y=\"{bottom:.0}\">{minute:.1} min</text>"
        );
    }
    for line in lines {
        for part in line.points.split(|(_, value)| value.is_none()) {
            let place = |(seconds, value): &(f64, Option<f64>)| {
                format!("{:.1},{:.1}", x(*seconds), y(value.unwrap_or_default()))
            };
            let places: Vec<_> = part.iter().map(place).collect();
            if !places.is_empty() {
                let _ = write!(
                    svg,
                    "\n<polyline class=\"{}\" points=\"{}\"/>",
                    line.class,
                    places.join(" ")
                );
            }
        }
    }
    svg.push_str("\n</svg>");
    svg
}

/// The next of 1, 2, 2.5, 5 and 10 times a power of ten.
fn round_up(number: f64) -> f64 {
    if number <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(number.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= number).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_at_a_round_number_above_the_highest_value() {
        let rounded = [0.0, 0.7, 1.0, 1.2, 23.0, 26.0, 501.0].map(round_up);
        assert_eq!(rounded, [1.0, 1.0, 1.0, 2.0, 25.0, 50.0, 1000.0]);
    }

    #[test]
    fn a_line_is_broken_where_there_is_nothing() {
        let points = vec![(0.0, Some(1.0)), (1.0, None), (2.0, Some(2.0)), (3.0, Some(1.0))];
        let svg = lines(&[Line { class: "a", points }], &[1.0], |value| value.to_string());
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("class=\"mark\"").count(), 1);
    }
}
