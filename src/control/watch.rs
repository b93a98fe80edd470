//! Noticing that files changed.
//!
//! What counts is content: a symbolic link that leads to another file with other bytes is a change,
//! a touched file is none. A change is acted on when two looks in a row agree, so that a file
//! caught half-written is not taken for the whole.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

/// More than any file that a plan is made from.
const FILE_BYTES_MAX: u64 = 16 * 1_024 * 1_024;
/// A file changed so recently may change again within the same tick of the file system's clock.
const FRESH: Duration = Duration::from_secs(2);

/// What files held at one moment; files that cannot be read are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, Option<u64>>);

impl Snapshot {
    /// What is known about `paths` here, completed from `other`.
    pub fn restricted(&self, paths: &[PathBuf], other: &Snapshot) -> Snapshot {
        let known = |path: &PathBuf| self.0.get(path).or(other.0.get(path)).copied().flatten();
        Snapshot(paths.iter().map(|path| (path.clone(), known(path))).collect())
    }
}

/// Reads files, but only those whose metadata changed since it last did.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    known: BTreeMap<PathBuf, (Stamp, u64)>,
}

/// What tells a file apart from a changed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Old enough for its times to tell it from any later change.
    fn settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(u64::try_from(self.changed.0).unwrap_or(0));
        now.checked_sub(changed).is_some_and(|age| age > FRESH)
    }
}

impl Reader {
    /// Looks at files; `None` where no file can be opened now, which says nothing about these. Blocks on the
    /// disk.
    pub fn look(&mut self, paths: &[PathBuf]) -> Option<Snapshot> {
        self.known.retain(|path, _| paths.contains(path));
        let all = paths.iter().map(|path| match self.content(path) {
            Err(error) if out_of_descriptors(&error) => None,
            content => Some((path.clone(), content.ok())),
        });
        Some(Snapshot(all.collect::<Option<_>>()?))
    }

    fn content(&mut self, path: &Path) -> io::Result<u64> {
        let meta = std::fs::metadata(path)?;
        let stamp = Stamp::of(&meta);
        if let Some((known, hash)) = self.known.get(path)
            && *known == stamp
        {
            return Ok(*hash);
        }
        // A pipe could block for ever.
        if !meta.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let hash = xxh3_64(&bytes);
        if stamp.settled() {
            self.known.insert(path.into(), (stamp, hash));
        } else {
            self.known.remove(path);
        }
        Ok(hash)
    }
}

fn out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Tells when a change has come to rest.
#[derive(Clone, Debug)]
pub struct Settling {
    /// What was last acted on.
    acted: Snapshot,
    /// What was seen since, once.
    seen: Option<Snapshot>,
}

impl Settling {
    /// Begins with what the present plan was made from.
    pub fn new(acted: Snapshot) -> Self {
        Self { acted, seen: None }
    }

    /// Takes one look in; true if there is something to act on. It is then told once.
    pub fn observe(&mut self, now: Snapshot) -> bool {
        if now == self.acted {
            self.seen = None;
            return false;
        }
        if self.seen.as_ref() == Some(&now) {
            *self = Self::new(now);
            return true;
        }
        self.seen = Some(now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn snapshot(hash: u64) -> Snapshot {
        Snapshot(BTreeMap::from([(PathBuf::from("f"), Some(hash))]))
    }

    #[test]
    fn a_change_counts_when_it_has_come_to_rest() {
        let mut settling = Settling::new(snapshot(1));
        for (hash, act) in [
            (1, false),
            (2, false),
            (3, false),
            (3, true),
            (3, false),
            (4, false),
            (3, false),
            (4, false),
            (4, true),
        ] {
            assert_eq!(settling.observe(snapshot(hash)), act, "{hash}");
        }
    }

    #[test]
    fn content_counts_and_links_are_followed() {
        let folder = std::env::temp_dir().join(format!("sluice-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [a, b, link, next] = ["a", "b", "link", "next"].map(|name| folder.join(name));
        std::fs::write(&a, "one").unwrap();
        std::fs::write(&b, "two").unwrap();
        symlink(&a, &link).unwrap();
        let paths = [link.clone(), folder.join("missing")];
        let mut reader = Reader::default();
        let first = reader.look(&paths);
        assert!(first.is_some());
        assert_eq!(first, reader.look(&paths));

        std::fs::write(&a, "one").unwrap();
        assert_eq!(first, reader.look(&paths), "touched");
        std::fs::write(&a, "One").unwrap();
        let written = reader.look(&paths);
        assert_ne!(first, written, "same length, other bytes");
        symlink(&b, &next).unwrap();
        std::fs::rename(&next, &link).unwrap();
        let swapped = reader.look(&paths);
        assert_ne!(written, swapped, "the link leads elsewhere");
        std::fs::write(&paths[1], "here now").unwrap();
        assert_ne!(swapped, reader.look(&paths), "a file came");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_was_read_before_counts() {
        let (before, after) = (snapshot(1), snapshot(2));
        let paths = [PathBuf::from("f"), PathBuf::from("g")];
        let merged = before.restricted(&paths, &after);
        assert_eq!(merged.0[&paths[0]], Some(1));
        assert_eq!(merged.0[&paths[1]], None);
    }
}
