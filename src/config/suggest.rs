//! "Did you mean": the nearest of a few known words.

/// The candidate nearest to `word`, if it is near enough to be a slip of the finger: at most a third of the
/// shorter one's letters differ (case, `-` and `_` count as equal), and no digit does: what is numbered is
/// told apart by that.
pub fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // A longer word is no slip of any known one, and the distance costs a product of lengths.
    const WORD_CHARS_MAX: usize = 64;
    let word = plain(word);
    if word.is_empty() || word.len() > WORD_CHARS_MAX {
        return None;
    }
    // Of several that are as near the first one, in whatever order they come.
    let near = |candidate: &'c str| {
        let known = plain(candidate);
        let far = distance(&word, &known);
        let most = (word.len().min(known.len()) / 3).min(4);
        (far <= most && digits(&word).eq(digits(&known))).then_some((far, candidate))
    };
    candidates.filter_map(near).min().map(|(_, candidate)| candidate)
}

fn digits(word: &[char]) -> impl Iterator<Item = &char> {
    word.iter().filter(|letter| letter.is_ascii_digit())
}

fn plain(word: &str) -> Vec<char> {
    let fold = |c: char| if c == '-' { '_' } else { c.to_ascii_lowercase() };
    word.chars().map(fold).collect()
}

/// Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let differ = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + differ);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["listen", "open_access", "tls", "connect_seconds", "vllm"];
        let near = |word| nearest(word, known.into_iter());
        assert_eq!(near("lisen"), Some("listen"));
        assert_eq!(near("Listen"), Some("listen"));
        assert_eq!(near("open-access"), Some("open_access"));
        assert_eq!(near("conect_second"), Some("connect_seconds"));
        assert_eq!(near("vlmm"), Some("vllm"));
        assert_eq!(near("tsl"), Some("tls"));
        assert_eq!(near("port"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"x".repeat(100_000)), None);
    }

    #[test]
    fn what_is_short_or_numbered_is_no_slip() {
        let known = ["m", "ab", "gpu-0", "llama-3.1-8b"];
        let near = |word| nearest(word, known.into_iter());
        for word in ["n", "mm", "ac", "b", "a", "gpu-1", "gpu-10", "llama-3.2-8b", "llama-3.1-70b"]
        {
            assert_eq!(near(word), None, "{word}");
        }
        let slips = [("M", "m"), ("AB", "ab"), ("gpu0", "gpu-0"), ("lama-3.1-8b", "llama-3.1-8b")];
        for (word, meant) in slips {
            assert_eq!(near(word), Some(meant), "{word}");
        }
    }
}
