//! Reading a page of metrics in the Prometheus text format (version 0.0.4), as far as engines write it.

/// One sample: `name{labels} value`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    /// What stands between the braces.
    labels: &'a str,
    pub value: f64,
}

/// Every sample of the page; comments and lines that are none are passed over.
pub fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines().filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_at_checked(labels_end(rest)?)?,
        None => ("", rest),
    };
    let value = rest.trim_start_matches('}').split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// Where the closing brace stands: not inside a quoted value.
fn labels_end(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    labels.bytes().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        byte == b'}' && !quoted
    })
}

impl<'a> Sample<'a> {
    /// A label's value as it is written. Engines' own labels hold no escapes where we look.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        loop {
            let (name, after) = rest.split_once("=\"")?;
            let end = value_end(after)?;
            if name.trim_start_matches([',', ' ']) == key {
                return Some(&after[..end]);
            }
            rest = &after[end + 1..];
        }
    }
}

fn value_end(value: &str) -> Option<usize> {
    let mut escaped = false;
    value.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_what_is_none_is_passed_over() {
        let page = "# HELP a b\n# TYPE a gauge\na 1\nb{} 2.5e3 1795142945\n\
                    c{x=\"1\",y=\"a}b\\\",z=\\\"c\"} 3\nd{x=\"never ends\nnonsense\ne nan\nf +Inf\n";
        let found: Vec<_> = samples(page).map(|s| (s.name, s.value)).collect();
        assert_eq!(found[..3], [("a", 1.0), ("b", 2500.0), ("c", 3.0)]);
        assert!(found[3].1.is_nan() && found[4] == ("f", f64::INFINITY) && found.len() == 5);
        let labelled = samples(page).nth(2).unwrap();
        assert_eq!(labelled.label("x"), Some("1"));
        assert_eq!(labelled.label("y"), Some("a}b\\\",z=\\\"c"));
        assert_eq!(labelled.label("z"), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(page in "[a-z{}=\",\\\\ 0-9.#\né]{0,200}") {
            for sample in samples(&page) {
                let _ = (sample.label("a"), sample.label(""));
            }
        }
    }
}
