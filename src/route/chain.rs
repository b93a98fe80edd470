//! The prompt of a request as a chain of block hashes: equal leading hashes mean equal leading bytes.
//!
//! The stream that is hashed is the raw JSON text of the tools, then of the system prompt, then of
//! the messages (or `input`, or `prompt`), as sent: conversations grow at their end, so what they have in
//! common stays the same bytes, and nothing is unescaped. What stands between these values is not part.
//! Each hash takes in the one before, back to a root of model, adapter and salt.
//!
//! Invariants:
//! - Where blocks end depends on nothing but the bytes before: a block is 512 bytes long in the first
//!   64 KiB of the stream, and 64 make up every doubling from there on; the end of the tools and of the
//!   system prompt ends a block, too. So a longer conversation has all blocks of a shorter one.
//! - The last section may grow: its closing brackets and quotes are in no block, nor is an unfinished
//!   block at its end.
//! - The kind of a section is hashed before its bytes: the same bytes elsewhere are something else.
//! - Digests are the same on every machine.
//! - Bytes are counted as text: [`media`] are hashed, but count the same however long they are.
//! - [`volatile`] text, which changes though the prompt does not, is left out.

mod anchor;
mod blocks;
mod media;
mod volatile;

#[cfg(test)]
mod tests;

use std::ops::Range;

use blocks::Blocks;
use media::Media;
use xxhash_rust::xxh3::xxh3_64;

use super::precise;
use crate::api::Ask;
use crate::route::size::{self, Content, Size};

/// Blocks of one prompt, at most; what follows is counted and not hashed. Enough for 1 GiB.
pub const CHAIN_BLOCKS_MAX: usize = 1024;

/// What every hash of a chain takes in: prompts with another root share nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Root<'a> {
    /// As the endpoints know it.
    pub model: &'a str,
    /// Empty without one.
    pub adapter: &'a str,
    /// Empty if the prompt's cache is shared between tenants.
    pub salt: &'a [u8],
}

/// The chain of one prompt. Memory is kept from one [`read`] to the next.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    hashes: Vec<u64>,
    /// Where in the stream each block ends.
    ends: Vec<u32>,
    bytes: u64,
    content: Content,
    anchor: u64,
    tellable: bool,
}

impl Chain {
    /// One hash for each block, in order.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// All bytes of the prompt, counted as text, the unhashed end included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How much it is.
    pub fn size(&self) -> Size {
        Size { bytes: self.bytes, content: self.content }
    }

    /// How many bytes the first `blocks` blocks have.
    pub fn bytes_at(&self, blocks: usize) -> u64 {
        let last = blocks.min(self.ends.len()).checked_sub(1);
        last.map_or(0, |last| u64::from(self.ends[last]))
    }

    /// The chain at the end of the first user message, or after the first 2 KiB where there is none:
    /// the same for every turn of a conversation.
    pub fn anchor(&self) -> u64 {
        self.anchor
    }

    /// Whether an engine that tells of its cache can tell of this prompt.
    pub fn is_tellable(&self) -> bool {
        self.tellable
    }

    /// Makes it that of no prompt.
    pub fn clear(&mut self) {
        self.hashes.clear();
        self.ends.clear();
        (self.bytes, self.anchor, self.tellable) = (0, 0, false);
    }

    fn begin(&mut self, stream_bytes: usize) {
        self.clear();
        let blocks = blocks::count_max(stream_bytes);
        self.hashes.reserve(blocks);
        self.ends.reserve(blocks);
    }
}

/// What a span of the stream is. The numbers are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Section {
    Tools = 1,
    System = 2,
    Messages = 3,
    Input = 4,
    Prompt = 5,
}

/// Hashes the prompt of `ask`, which was read from `body`, into `chain`.
pub fn read(chain: &mut Chain, root: &Root<'_>, body: &[u8], ask: &Ask) {
    let spans = &ask.prompt;
    let sections = [
        (Section::Tools, &spans.tools),
        (Section::System, &spans.system),
        (Section::Messages, &spans.messages),
        (Section::Input, &spans.input),
        (Section::Prompt, &spans.prompt),
    ];
    let present = sections.iter().filter_map(|(section, span)| Some((*section, (*span).clone()?)));
    let last = present.clone().count().saturating_sub(1);
    chain.begin(present.clone().map(|(_, span)| span.len()).sum());
    let mut media = size::media(body, ask);
    chain.content = size::content(body, ask, &media);
    let mut blocks = Blocks::new(root_hash(root), body, chain);
    for (i, (section, span)) in present.enumerate() {
        blocks.begin_section(section as u64);
        if !media.is_empty() && matches!(section, Section::Messages | Section::Input) {
            blocks.expect(Media::new(std::mem::take(&mut media)));
        }
        if i == last {
            let span = span.start..growing_end(body, &span);
            let anchor = anchor::offset(body, &span);
            write(&mut blocks, body, section, span, Some(anchor));
        } else {
            write(&mut blocks, body, section, span, None);
            blocks.end_section();
        }
    }
    blocks.finish();
    chain.tellable = precise::is_tellable(root, body, ask);
}

fn root_hash(root: &Root<'_>) -> u64 {
    let model = xxh3_64(root.model.as_bytes());
    let adapter = blocks::link(model, xxh3_64(root.adapter.as_bytes()));
    blocks::link(adapter, xxh3_64(root.salt))
}

/// The end of a value without what a longer one would not have there: closing brackets, the space
/// before them, and the closing quote of a text.
fn growing_end(body: &[u8], span: &Range<usize>) -> usize {
    let value = body.get(span.clone()).unwrap_or_default();
    let open = value.trim_ascii_end();
    let open = match value.first() {
        Some(b'[') => open.strip_suffix(b"]").unwrap_or(open).trim_ascii_end(),
        _ => open,
    };
    // Lists of token ids, and of texts.
    let open = open.strip_suffix(b"]").unwrap_or(open);
    let open = open.strip_suffix(b"\"").unwrap_or(open);
    span.start + open.len()
}

/// Writes the bytes at `span` but for volatile ones, and marks the anchor.
fn write(
    blocks: &mut Blocks<'_>,
    body: &[u8],
    section: Section,
    span: Range<usize>,
    anchor: Option<usize>,
) {
    let mut anchor = anchor;
    for run in volatile::without(body, section, span) {
        let mut start = run.start;
        if let Some(at) = anchor.filter(|at| *at <= run.end) {
            start = start.max(at);
            blocks.write(run.start..start);
            blocks.mark_anchor();
            anchor = None;
        }
        blocks.write(start..run.end);
    }
}
