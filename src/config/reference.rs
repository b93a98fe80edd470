//! What the file refers to: secrets (`env:NAME`, `file:PATH`) and files.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::reader::{At, Reader};
use super::secret::Secret;

/// Secrets are keys and tokens, not documents.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// Why a file could not be used, and the remedy.
type Refusal = (String, &'static str);

/// Resolves a secret reference. A literal is refused: the file is read, copied, committed and pasted
/// by people who should not see it. `None` after a fault.
pub fn secret(reader: &Reader<'_>, key: &str, text: At<&str>) -> Option<Secret> {
    if !is_reference(text.value) {
        let what = format!("`{key}` holds a literal secret");
        let fix = "write \"env:NAME\" (an environment variable) or \"file:PATH\" (a file)";
        reader.fault(text.at, what, fix);
        return None;
    }
    match resolve(reader, text.value).and_then(wire_safe) {
        Ok(secret) => Some(Secret::from_source(secret, text.value)),
        Err((what, fix)) => {
            reader.fault(text.at, format!("`{key}` ({}) {what}", text.value.escape_debug()), fix);
            None
        }
    }
}

/// Whether a value is a reference to a secret rather than the value itself.
pub fn is_reference(value: &str) -> bool {
    value.starts_with("env:") || value.starts_with("file:")
}

fn resolve(reader: &Reader<'_>, reference: &str) -> Result<String, Refusal> {
    if let Some(name) = reference.strip_prefix("env:") {
        let fix = "set it before Sluice starts, or correct the name";
        return (reader.env)(name).ok_or_else(|| ("is not set".to_owned(), fix));
    }
    let path = reference.strip_prefix("file:").unwrap_or(reference);
    let bytes = read_file(&resolve_path(reader, path), SECRET_BYTES_MAX)?;
    reader.depends_on(&resolve_path(reader, path));
    let fix = "store the secret as plain text";
    let mut text = String::from_utf8(bytes).map_err(|_| ("is not text".to_owned(), fix))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// A secret travels in a header: visible ASCII and inner spaces only (RFC 9110 section 5.5).
fn wire_safe(secret: String) -> Result<String, Refusal> {
    if secret.is_empty() {
        return Err(("is empty".to_owned(), "store the secret there"));
    }
    if secret.starts_with(' ') || secret.ends_with(' ') {
        return Err(("begins or ends with a space".to_owned(), "remove the space"));
    }
    if !secret.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        let what = "holds line breaks, control characters or non-ASCII letters".to_owned();
        return Err((what, "store the secret alone, on one line"));
    }
    Ok(secret)
}

/// Reads a file that a key names; notes a fault and gives `None` if that fails.
pub fn file(
    reader: &Reader<'_>,
    key: &str,
    path: At<&str>,
    bytes_max: u64,
) -> Option<(PathBuf, Vec<u8>)> {
    let full = resolve_path(reader, path.value);
    reader.depends_on(&full);
    match read_file(&full, bytes_max) {
        Ok(bytes) => Some((full, bytes)),
        Err((what, fix)) => {
            reader.fault(path.at, format!("`{key}` ({}) {what}", path.value), fix);
            None
        }
    }
}

/// Relative paths count from the configuration file's directory, wherever Sluice was started.
pub fn resolve_path(reader: &Reader<'_>, path: &str) -> PathBuf {
    reader.base_dir.join(path)
}

/// Reads a regular file of at most `bytes_max` bytes.
pub fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Refusal> {
    let cannot =
        |e: std::io::Error| (format!("cannot be read ({e})"), "check path and permissions");
    // A pipe or a terminal could block a reload for ever.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(("is not a regular file".to_owned(), "name a regular file"));
    }
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > bytes_max {
        return Err((format!("is larger than {bytes_max} bytes"), "name the right file"));
    }
    Ok(bytes)
}
