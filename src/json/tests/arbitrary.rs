//! Arbitrary bodies, written in arbitrary ways, whole and broken.

use proptest::prelude::*;

use super::*;

const KEYS: Keys<3> = Keys::new(["model", "stream_options", "n"]);

#[derive(Clone, Debug)]
enum Tree {
    Literal(String),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
    ];
    let literal =
        prop_oneof![Just("true".to_owned()), Just("false".to_owned()), Just("null".to_owned())];
    let leaf = prop_oneof![
        number.prop_map(Tree::Literal),
        literal.prop_map(Tree::Literal),
        text().prop_map(Tree::Text),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            proptest::collection::vec((text(), inner), 0..6).prop_map(Tree::Map),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z]{1,12}",
        "[ -~]{0,100}",
        any::<String>(),
        proptest::collection::vec(any::<char>(), 0..150)
            .prop_map(|text| text.into_iter().collect()),
    ]
}

/// Writes trees, spending `choices` on the places where JSON leaves one.
struct Writer {
    out: String,
    choices: std::vec::IntoIter<u8>,
}

impl Writer {
    fn new(choices: Vec<u8>) -> Self {
        Self { out: String::new(), choices: choices.into_iter() }
    }

    fn choice(&mut self) -> u8 {
        self.choices.next().unwrap_or(0)
    }

    fn space(&mut self) {
        let spaces = ["", "", "", " ", "\n", "\t", "\r\n", "  \n\t  "];
        let choice = usize::from(self.choice());
        self.out.push_str(spaces[choice % spaces.len()]);
    }

    fn token(&mut self, token: char) {
        self.space();
        self.out.push(token);
        self.space();
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match (c, self.choice() % 4) {
                ('"' | '\\', 0..3) => self.out.extend(['\\', c]),
                ('/', 1) => self.out.push_str("\\/"),
                ('\n', 0..3) => self.out.push_str("\\n"),
                ('\t', 0..3) => self.out.push_str("\\t"),
                ('\0'..' ' | '"' | '\\', _) | (_, 3) => self.units(c),
                _ => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn units(&mut self, c: char) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let upper = self.choice() % 2 == 1;
            let hex = if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
            self.out.push_str(&hex);
        }
    }

    /// Where the tree's text stands.
    fn tree(&mut self, tree: &Tree) -> Range<usize> {
        let start = self.out.len();
        match tree {
            Tree::Literal(text) => self.out.push_str(text),
            Tree::Text(text) => self.text(text),
            Tree::List(items) => {
                self.list(items);
            }
            Tree::Map(members) => {
                self.map(members);
            }
        }
        start..self.out.len()
    }

    fn list(&mut self, items: &[Tree]) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        self.out.push('[');
        self.space();
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.token(',');
            }
            spans.push(self.tree(item));
        }
        self.space();
        self.out.push(']');
        spans
    }

    fn map(&mut self, members: &[(String, Tree)]) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        self.out.push('{');
        self.space();
        for (i, (key, value)) in members.iter().enumerate() {
            if i > 0 {
                self.token(',');
            }
            self.text(key);
            self.token(':');
            spans.push(self.tree(value));
        }
        self.space();
        self.out.push('}');
        spans
    }
}

/// The members of a body: any, and each of the wanted ones at most once.
fn members() -> impl Strategy<Value = Vec<(String, Tree)>> {
    let others = text().prop_filter("wanted", |key| !KEYS.names.contains(&key.as_str()));
    let others = proptest::collection::vec((others, tree()), 0..6);
    let wanted = proptest::sample::subsequence(KEYS.names.to_vec(), 0..=3);
    (others, wanted, proptest::collection::vec(tree(), 3)).prop_flat_map(
        |(others, wanted, values)| {
            let wanted = wanted.into_iter().map(String::from).zip(values);
            Just(others.into_iter().chain(wanted).collect::<Vec<_>>()).prop_shuffle()
        },
    )
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

#[derive(Clone, Debug)]
enum Damage {
    Set(u8),
    Insert(u8),
    Delete(usize),
    Truncate,
    Repeat(usize),
    Paste(&'static [u8]),
}

fn damage() -> impl Strategy<Value = (prop::sample::Index, Damage)> {
    let telling = prop_oneof![
        any::<u8>(),
        prop::sample::select(
            b"\"\\{}[]:,0123456789.eE+-u ntf\n\x00\x1f\x7f\x80\xc3\xed\xff".to_vec()
        ),
    ];
    let pieces: Vec<&'static [u8]> = vec![
        b"\\ud83d",
        b"\\ude00",
        b"\\u",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"1e999",
        b",,",
        b"\"\"",
    ];
    let damage = prop_oneof![
        telling.clone().prop_map(Damage::Set),
        telling.prop_map(Damage::Insert),
        (1usize..9).prop_map(Damage::Delete),
        Just(Damage::Truncate),
        (1usize..80).prop_map(Damage::Repeat),
        prop::sample::select(pieces).prop_map(Damage::Paste),
    ];
    (any::<prop::sample::Index>(), damage)
}

fn apply(body: &mut Vec<u8>, at: usize, damage: &Damage) {
    let until = |len: usize| (at + len).min(body.len());
    match damage {
        Damage::Set(byte) => body[at] = *byte,
        Damage::Insert(byte) => body.insert(at, *byte),
        Damage::Delete(len) => drop(body.drain(at..until(*len))),
        Damage::Truncate => body.truncate(at),
        Damage::Repeat(len) => {
            let piece = body[at..until(*len)].to_vec();
            body.splice(at..at, piece);
        }
        Damage::Paste(piece) => drop(body.splice(at..at, piece.iter().copied())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn wanted_members_are_found(members in members(), choices in choices()) {
        let mut writer = Writer::new(choices);
        writer.space();
        let spans = writer.map(&members);
        writer.space();
        let body = writer.out;
        let found = scan(body.as_bytes(), &KEYS).unwrap();
        for (i, name) in KEYS.names.iter().enumerate() {
            let place = members.iter().position(|(key, _)| key == name);
            prop_assert_eq!(found.get(i).map(|v| &v.span), place.map(|at| &spans[at]));
            let Some(value) = found.get(i) else { continue };
            let (_, tree) = &members[place.unwrap()];
            if let Tree::Text(text) = tree {
                let is_string = matches!(value.kind, Kind::String { .. });
                prop_assert!(is_string);
                prop_assert_eq!(&string_value(body.as_bytes(), value), text);
            }
            prop_assert!(body[found.key_at(i).unwrap()..].starts_with('"'));
        }
        prop_assert_eq!(found.empty, members.is_empty());
        prop_assert_eq!(&body[found.open - 1..found.open], "{");
        prop_assert_eq!(&body[found.close..found.close + 1], "}");
        check_verdict(body.as_bytes());
    }

    #[test]
    fn elements_are_found(items in proptest::collection::vec(tree(), 0..8), choices in choices()) {
        let mut writer = Writer::new(choices);
        writer.out.push_str("{\"n\":");
        let start = writer.out.len();
        let spans = writer.list(&items);
        let end = writer.out.len();
        writer.out.push('}');
        let found: Vec<_> = elements(writer.out.as_bytes(), start..end).map(|v| v.span).collect();
        prop_assert_eq!(found, spans);
    }

    #[test]
    fn damaged_bodies_get_the_same_verdict(
        members in members(),
        choices in choices(),
        damages in proptest::collection::vec(damage(), 1..4),
    ) {
        let mut writer = Writer::new(choices);
        writer.map(&members);
        let mut body = writer.out.into_bytes();
        for (at, damage) in damages {
            if !body.is_empty() {
                let at = at.index(body.len());
                apply(&mut body, at, &damage);
            }
            check_verdict(&body);
            // With keys wanted the spans must still be whole values.
            if let Ok(found) = scan(&body, &KEYS) {
                for value in (0..3).filter_map(|i| found.get(i)) {
                    let text = &body[value.span.clone()];
                    prop_assert!(serde_json::from_slice::<serde_json::Value>(text).is_ok());
                }
            }
        }
    }

    #[test]
    fn any_bytes_at_all(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_verdict(&body);
        check_verdict(&[b"{\"a\":\"", body.as_slice(), b"\"}"].concat());
    }
}
