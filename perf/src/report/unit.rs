//! Numbers as people read them.

/// A time given in microseconds: "17.9 µs", "3.2 ms", "1.5 s".
pub fn micros(us: f64) -> String {
    let size = us.abs();
    match size {
        _ if size < 1_000.0 => format!("{} µs", digits(us)),
        _ if size < 1_000_000.0 => format!("{} ms", digits(us / 1e3)),
        _ => format!("{} s", digits(us / 1e6)),
    }
}

/// A time on an axis: powers of ten stay short.
pub fn micros_tick(us: f64) -> String {
    let (value, unit) = match us {
        _ if us < 999.5 => (us, "µs"),
        _ if us < 999_500.0 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    format!("{} {unit}", trimmed(value))
}

/// Kibibytes: "14.2 MiB".
pub fn kib(kib: f64) -> String {
    match kib {
        _ if kib < 1_024.0 => format!("{} KiB", digits(kib)),
        _ if kib < 1_024.0 * 1_024.0 => format!("{} MiB", digits(kib / 1_024.0)),
        _ => format!("{} GiB", digits(kib / 1_024.0 / 1_024.0)),
    }
}

/// A count or a rate, thousands apart.
pub fn count(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return digits(value);
    }
    let plain = format!("{value:.0}");
    let (sign, plain) = plain.strip_prefix('-').map_or(("", &*plain), |rest| ("-", rest));
    let mut shown = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    format!("{sign}{shown}")
}

/// Three digits, as far as there is something to say.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A ratio: three digits, and two of those that matter where it is small.
pub fn factor(ratio: f64) -> String {
    match ratio {
        small if small > 0.0 && small < 0.095 => {
            let places = (1.0 - small.log10().floor()).min(9.0) as usize;
            format!("{small:.places$}")
        }
        other => digits(other),
    }
}

/// At most two digits behind the point, and no zeros at the end.
pub fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(micros(17.912), "17.9 µs");
        assert_eq!(micros(17_217.0), "17.2 ms");
        assert_eq!(micros(-3.0), "-3.00 µs");
        assert_eq!((micros_tick(1_000.0), micros_tick(0.5)), ("1 ms".into(), "0.5 µs".into()));
        assert_eq!((kib(1_536.0), kib(900.0)), ("1.50 MiB".into(), "900 KiB".into()));
        assert_eq!((count(1_234_567.0), count(100.0)), ("1,234,567".into(), "100".into()));
        assert_eq!((factor(0.000_814), factor(0.0201)), ("0.00081".into(), "0.020".into()));
        assert_eq!((factor(0.74), factor(1_380.0)), ("0.74".into(), "1380".into()));
        assert_eq!((count(2.5), count(-1_000.0)), ("2.50".into(), "-1,000".into()));
    }
}
