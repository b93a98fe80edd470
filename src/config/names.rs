//! Names of things in the file: they become metric labels, log fields and answers to clients.

use super::reader::{At, Section};

/// Longest name, in bytes: it stands in every access row and metric label.
const NAME_BYTES_MAX: usize = 256;

/// A required name: 1 to 256 bytes, no control characters, no space around it.
pub fn name<'a>(section: &Section<'a>, key: &'static str, example: &str) -> Option<At<&'a str>> {
    let found = section.required(key, example)?;
    check(section, key, found)
}

/// The rules for names applied to a text that is already read.
pub fn check<'a>(section: &Section<'a>, key: &str, found: At<&'a str>) -> Option<At<&'a str>> {
    let (what, fix) = if found.value.is_empty() {
        (format!("`{key}` is empty"), "write a name")
    } else if found.value.len() > NAME_BYTES_MAX {
        (format!("`{key}` is longer than {NAME_BYTES_MAX} bytes"), "shorten it")
    } else if found.value.trim() != found.value {
        (format!("`{key}` begins or ends with a space"), "remove the space")
    } else {
        return Some(found);
    };
    section.fault(found.at, what, fix);
    None
}
