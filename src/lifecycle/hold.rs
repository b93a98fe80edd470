//! Settleable resources: tokens (and, through prices, money).

use std::rc::Rc;

use super::ledger::Ledgers;
use super::permit::{Permit, Spend};

/// What a closed hold booked, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub input: u64,
    pub output: u64,
}

/// Tokens reserved for one request. [`Hold::settle`] closes it with the engine's own count; a hold that
/// is dropped without one books what was observed, and never less than the input's floor. It never
/// refunds on abandon: that would be free inference for whoever hangs up in time.
#[must_use = "dropping a hold books its floor"]
pub struct Hold {
    reserved: Option<Permit<Spend>>,
    floor_input: u64,
    seen_output: u64,
    book: Rc<dyn Fn(Receipt)>,
}

impl Hold {
    /// Reserves `reserve` tokens; `floor_input` is what the input costs at least. `book` is called
    /// exactly once, when the hold closes. `None` where the ledger's limit would be passed.
    pub fn open(
        ledgers: &Rc<Ledgers>,
        reserve: u64,
        floor_input: u64,
        book: Rc<dyn Fn(Receipt)>,
    ) -> Option<Self> {
        let reserved = Some(ledgers.take::<Spend>(reserve)?);
        Some(Self { reserved, floor_input, seen_output: 0, book })
    }

    /// Notes output tokens as they flow past.
    pub fn observe(&mut self, output: u64) {
        self.seen_output += output;
    }

    /// Closes with the engine's usage; what it did not report falls back on what was seen.
    pub fn settle(mut self, input: Option<u64>, output: Option<u64>) -> Receipt {
        let receipt = Receipt {
            input: input.unwrap_or(self.floor_input),
            output: output.unwrap_or(self.seen_output),
        };
        self.close(receipt);
        receipt
    }

    fn close(&mut self, receipt: Receipt) {
        if let Some(reserved) = self.reserved.take() {
            drop(reserved);
            (self.book)(receipt);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.close(Receipt { input: self.floor_input, output: self.seen_output });
    }
}
