//! What Sluice hashes of each request: its body, read as a shard reads it.

use sluice::api::ask::{Ask as Read, read_ask};
use sluice::api::operation::Operation;
use sluice::json::Bounds;
use sluice::route::chain::{Chain, Root, read};

use super::body::render;
use super::trace::Trace;

/// The model that all ask for.
pub const MODEL: &str = "m";
/// As in Sluice's default configuration.
const BOUNDS: Bounds = Bounds { depth_max: 128 };

/// The chain of every request of a trace, in order.
///
/// # Errors
/// A body that Sluice would refuse.
pub fn chains(trace: &Trace) -> Result<Vec<Chain>, String> {
    let mut body = String::new();
    let chain = |ask| {
        render(ask, MODEL, &mut body);
        let read_body: Box<Read> = read_ask(Operation::Chat, body.as_bytes(), &BOUNDS)
            .map_err(|fault| format!("a body of the trace is refused: {fault:?}"))?;
        let (mut chain, root) = (Chain::default(), Root { model: MODEL, ..Root::default() });
        read(&mut chain, &root, body.as_bytes(), &read_body);
        Ok(chain)
    };
    trace.asks.iter().map(chain).collect()
}
