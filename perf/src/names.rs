//! Names that are asked for and not there: all of them are told at once, and those that are.

use crate::Failure;

/// What is said of those of `asked` that are none of `known`.
pub fn unknown<'a>(
    what: &str,
    asked: impl IntoIterator<Item = &'a str>,
    known: &[&str],
) -> Option<String> {
    let odd: Vec<&str> = asked.into_iter().filter(|name| !known.contains(name)).collect();
    let said =
        || format!("no {what} is called {}; there are {}", odd.join(" or "), known.join(", "));
    (!odd.is_empty()).then(said)
}

/// What is said of those of `parts` that stand in none of `known`.
pub fn unmatched(parts: &[String], known: &[&str]) -> Option<String> {
    let nowhere = |part: &&str| !known.iter().any(|name| name.contains(part));
    let odd: Vec<&str> = parts.iter().map(String::as_str).filter(nowhere).collect();
    let said = || {
        format!("no scenario has {} in its name; there are {}", odd.join(" or "), known.join(", "))
    };
    (!odd.is_empty()).then(said)
}

/// All that was said, together.
///
/// # Errors
/// Anything was.
pub fn all_known(said: impl IntoIterator<Item = Option<String>>) -> Result<(), Failure> {
    let said: Vec<String> = said.into_iter().flatten().collect();
    if said.is_empty() { Ok(()) } else { Err(said.join("\n").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unknown_name_is_told_at_once_with_those_that_exist() {
        let said = unknown("peer", ["nginx", "apache", "iis"], &["nginx", "envoy"]);
        assert_eq!(
            said.as_deref(),
            Some("no peer is called apache or iis; there are nginx, envoy")
        );
        let parts = ["1k".to_owned(), "2k".to_owned()];
        let other = unmatched(&parts, &["unary-1k", "idle"]);
        assert_eq!(
            other.as_deref(),
            Some("no scenario has 2k in its name; there are unary-1k, idle")
        );
        let both = all_known([said, other]).unwrap_err().to_string();
        assert_eq!(both.lines().count(), 2);
        assert_eq!(unknown("peer", ["nginx"], &["nginx"]), None);
        assert!(all_known([None, None]).is_ok());
    }
}
