//! Numbers as people read them.

/// Three digits that matter: `0.89`, `12.3`, `447`.
pub(crate) fn short(number: f64) -> String {
    match number {
        _ if number >= 99.95 => format!("{number:.0}"),
        _ if number >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Commands per second: `447 k`, `2.73 M`.
pub(crate) fn rate(number: f64) -> String {
    if number >= 999_500.0 {
        format!("{} M", short(number / 1e6))
    } else {
        format!("{} k", short(number / 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_shown() {
        let shown = [0.6, 1.0, 9.994, 9.996, 99.94, 99.96, 4711.0].map(short);
        assert_eq!(shown, ["0.60", "1.00", "9.99", "10.0", "99.9", "100", "4711"]);
        let shown = [7_000.0, 446_900.0, 999_900.0, 2_730_000.0].map(rate);
        assert_eq!(shown, ["7.00 k", "447 k", "1.00 M", "2.73 M"]);
    }
}
