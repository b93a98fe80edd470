//! Whether messages came in order: each carries a number one higher than the last. Pure.

/// What a message's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next one: to be applied.
    Next,
    /// Came before.
    Known,
    /// Those from this number on are missing, and are to be asked for.
    Missing { from: u64 },
    /// Numbers began anew: another process, whose cache is empty.
    Restart,
}

/// A number so much lower than the last is not an old message but a new process.
const REORDER_MAX: u64 = 64;

/// The last number that was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    last: Option<u64>,
}

impl Sequence {
    /// Judges a number without taking it in.
    pub fn judge(&self, number: u64) -> Verdict {
        let Some(last) = self.last else {
            // Whatever came before the first that is heard is missing.
            return if number == 0 { Verdict::Next } else { Verdict::Missing { from: 0 } };
        };
        match number {
            _ if number == last.wrapping_add(1) => Verdict::Next,
            _ if number > last => Verdict::Missing { from: last + 1 },
            0 if last > 0 => Verdict::Restart,
            _ if last - number >= REORDER_MAX => Verdict::Restart,
            _ => Verdict::Known,
        }
    }

    /// The message was applied, or given up for lost with all before it.
    pub fn applied(&mut self, number: u64) {
        self.last = Some(number);
    }

    /// Nothing is known any more.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.judge(0), Verdict::Next);
        assert_eq!(sequence.judge(7), Verdict::Missing { from: 0 });
        sequence.applied(7);
        for (number, verdict) in [
            (8, Verdict::Next),
            (7, Verdict::Known),
            (1, Verdict::Known),
            (10, Verdict::Missing { from: 8 }),
            (0, Verdict::Restart),
        ] {
            assert_eq!(sequence.judge(number), verdict, "{number}");
        }
        sequence.applied(1_000);
        assert_eq!(sequence.judge(900), Verdict::Restart);
        sequence.reset();
        assert_eq!(sequence.judge(0), Verdict::Next);
    }
}
