//! Whether messages came in order: each carries a number one higher than the last. Pure.
//!
//! A number that is not higher than the last is either a delivery that came before or that of another
//! process, which numbers from 0 again and may be heard late. Their bytes tell them apart: a message that is
//! delivered again is the same, and an engine writes the time into each, so another process's is not. Nothing
//! overtakes on one connection; a low number under which nothing was taken, or nothing lately, is therefore
//! another process, too. Where that is wrong, what was known is asked for again, and no more is lost.
//!
//! A process that is first heard *above* the last number is found by the same rule when the gap is filled:
//! the last message that was taken must come again as it was. First heard at exactly the next number, it is
//! taken for the old one.

/// What a message says of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next one: to be applied.
    Next,
    /// It was applied before.
    Known,
    /// Those from this number on are missing, and are to be asked for.
    Missing { from: u64 },
    /// Numbers began anew: another process, whose cache began empty.
    Restart,
}

/// Messages that are known again.
const KNOWN_MAX: usize = 64;

/// The messages that were applied last.
#[derive(Clone, Debug)]
pub struct Sequence {
    last: Option<u64>,
    /// Numbers and digests, each in the place of its number.
    known: [Option<(u64, u64)>; KNOWN_MAX],
}

impl Default for Sequence {
    fn default() -> Self {
        Self { last: None, known: [None; KNOWN_MAX] }
    }
}

impl Sequence {
    /// Judges a number, and a digest of all that came under it, without taking it in.
    pub fn judge(&self, number: u64, digest: u64) -> Verdict {
        let Some(last) = self.last else {
            // Whatever came before the first that is heard is missing.
            return if number == 0 { Verdict::Next } else { Verdict::Missing { from: 0 } };
        };
        match number {
            _ if number == last.wrapping_add(1) => Verdict::Next,
            _ if number > last => Verdict::Missing { from: last + 1 },
            _ if self.known[place(number)] == Some((number, digest)) => Verdict::Known,
            _ => Verdict::Restart,
        }
    }

    /// The message was applied, and those before it were, or are given up for lost.
    pub fn applied(&mut self, number: u64, digest: u64) {
        self.last = Some(number);
        self.known[place(number)] = Some((number, digest));
    }

    /// Nothing is known any more.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

fn place(number: u64) -> usize {
    (number % KNOWN_MAX as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.judge(0, 1), Verdict::Next);
        assert_eq!(sequence.judge(7, 1), Verdict::Missing { from: 0 });
        sequence.applied(7, 70);
        for (number, digest, verdict) in [
            (8, 80, Verdict::Next),
            (10, 100, Verdict::Missing { from: 8 }),
            (7, 70, Verdict::Known),
            (7, 71, Verdict::Restart),
            (1, 10, Verdict::Restart),
            (0, 70, Verdict::Restart),
        ] {
            assert_eq!(sequence.judge(number, digest), verdict, "{number}");
        }
        sequence.reset();
        assert_eq!(sequence.judge(0, 1), Verdict::Next);
    }

    #[test]
    fn what_came_lately_is_known_again() {
        let mut sequence = Sequence::default();
        (0..100).for_each(|number| sequence.applied(number, number + 1_000));
        for number in 36..100 {
            assert_eq!(sequence.judge(number, number + 1_000), Verdict::Known);
            assert_eq!(sequence.judge(number, number), Verdict::Restart);
        }
        assert_eq!(sequence.judge(35, 1_035), Verdict::Restart);
    }

    #[test]
    fn a_process_that_began_anew_is_one_at_its_first_message_too() {
        let mut sequence = Sequence::default();
        sequence.applied(0, 1);
        assert_eq!(sequence.judge(0, 1), Verdict::Known);
        assert_eq!(sequence.judge(0, 2), Verdict::Restart);
    }
}
