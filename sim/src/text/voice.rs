//! The voice: what the model says, word by word, determined by a key and a position.
//!
//! The key comes from the server's seed, the prompt and the choice's index. A continuation of an
//! assistant message starts at that message's length with the same key, so whichever server goes on
//! with an answer says the same words as the one that began it.

use super::mix;
use super::tokens::piece_id;
use std::sync::LazyLock;

/// 256 words of at most 5 bytes, so that each is one token; some need escaping in JSON, some are
/// not ASCII.
const WORDS: &str = "\
    able acid aged also arch area army atom aunt away baby back ball band bank barn base bath \
    bead beam bean bear beat bell belt bend best bike bird blue boat body bold bone book boot \
    born boss both bowl brave bread brick brief bring broad brown brush build burst cabin cable \
    calm camp card care cart case cash cast cave cell chain chair chalk charm chart chase cheap \
    check chess chest chief child civil claim class clean clear climb clock cloth cloud coach \
    coast coat code cold color cook cool copy coral corn cost count court cover craft crane \
    cream crowd crown curve cycle daily dance dark data dawn deal deep deer delta depth desk \
    dish dock door draft dream dress drift drill drink drive drum dusk dust eager eagle early \
    earth east easy echo edge elbow empty enjoy entry equal event exact extra fable faith fall \
    farm fast fence field fifty film final find fire first fish flag flame flat fleet float \
    floor flow fluid focus fold foot force forge fork form fort found frame fresh front frost \
    fruit full gain game gate gaze giant gift glad glass globe goal gold good grain grand grape \
    grass gray great green grid group grow guard guest guide habit half hall hand happy hard \
    harp haste haven hawk head heart heat naïf été über ñu 你 \"so\" a/b C:\\ № end. yes, no? x=1 \
    <b> #1 hero hill hint hold home hope horn horse host hotel hour house human idea inch index \
    inner iron ivory jazz jewel";

static TABLE: LazyLock<Vec<Word>> =
    LazyLock::new(|| WORDS.split_ascii_whitespace().map(Word::new).collect());

struct Word {
    spaced: String,
    spaced_id: u32,
    bare_id: u32,
}

impl Word {
    fn new(word: &str) -> Self {
        let spaced = format!(" {word}");
        let spaced_id = piece_id(spaced.as_bytes());
        Self { spaced, spaced_id, bare_id: piece_id(word.as_bytes()) }
    }
}

/// An endless text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    key: u64,
    offset: u32,
    spaced_start: bool,
    period: u32,
}

impl Voice {
    /// The text of `key`, from its start.
    pub fn new(key: u64) -> Self {
        Self { key, offset: 0, spaced_start: false, period: 0 }
    }

    /// The same text from its word `offset` on.
    pub fn from(mut self, offset: u32) -> Self {
        self.offset = offset;
        self
    }

    /// The same text, its first word too with a space before it (text completions go on in the
    /// middle of a line).
    pub fn spaced(mut self) -> Self {
        self.spaced_start = true;
        self
    }

    /// A text that says its first `words` words over and over.
    pub fn looped(mut self, words: u32) -> Self {
        self.period = words;
        self
    }

    /// The piece of text at `position`, counted from where this voice starts.
    pub fn piece(&self, position: u32) -> &'static str {
        let word = self.word(position);
        if self.is_bare(position) { &word.spaced[1..] } else { &word.spaced }
    }

    /// The token id of [`Voice::piece`] at `position`.
    pub fn id(&self, position: u32) -> u32 {
        let word = self.word(position);
        if self.is_bare(position) { word.bare_id } else { word.spaced_id }
    }

    fn is_bare(&self, position: u32) -> bool {
        !self.spaced_start && self.offset == 0 && position == 0
    }

    fn word(&self, position: u32) -> &'static Word {
        let absolute = self.offset.wrapping_add(position);
        let place = if self.period == 0 { absolute } else { absolute % self.period };
        let index = mix(self.key, u64::from(place)) as usize % TABLE.len();
        &TABLE[index]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::{encode, pieces};
    use super::*;

    fn say(voice: Voice, words: u32) -> String {
        (0..words).map(|position| voice.piece(position)).collect()
    }

    #[test]
    fn every_word_is_one_token_with_and_without_its_space() {
        assert_eq!(TABLE.len(), 256);
        for word in TABLE.iter() {
            assert_eq!(pieces(&word.spaced).count(), 1, "{}", word.spaced);
            assert_eq!(pieces(&word.spaced[1..]).count(), 1, "{}", word.spaced);
        }
    }

    #[test]
    fn the_text_splits_into_the_tokens_it_was_made_of() {
        let voice = Voice::new(99);
        let mut ids = Vec::new();
        encode(&say(voice, 500), &mut ids);
        assert_eq!(ids, (0..500).map(|position| voice.id(position)).collect::<Vec<_>>());
    }

    #[test]
    fn a_continuation_says_the_rest() {
        let whole = say(Voice::new(5), 60);
        let rest = say(Voice::new(5).from(20), 40);
        assert_eq!(say(Voice::new(5), 20) + &rest, whole);
        assert_ne!(say(Voice::new(6), 60), whole);
    }

    #[test]
    fn a_looped_voice_repeats_its_phrase() {
        let voice = Voice::new(5).spaced().looped(4);
        assert_eq!(say(voice, 4).repeat(3), say(voice, 12));
    }
}
