//! `docs/headers.md` says what the code does: its table is the code's own.

use std::path::Path;

use sluice::http::table::{Fate, Row, TABLE};

const FIRST_LINE: &str = "| header | request | answer | because |";

/// What a fate is called in the document.
fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Forward => "passes",
        Fate::Ours => "ours",
        Fate::Drop => "dropped",
    }
}

fn line(row: &Row) -> String {
    let (request, response) = (word(row.request), word(row.response));
    format!("| `{}` | {request} | {response} | {} |\n", row.known.name(), row.why)
}

fn table() -> String {
    let lines: String = TABLE.iter().map(line).collect();
    format!("{FIRST_LINE}\n|---|---|---|---|\n{lines}")
}

#[test]
fn the_documents_table_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/headers.md");
    let text = std::fs::read_to_string(path).expect("docs/headers.md is there");
    let start = text.find(FIRST_LINE).expect("it has the table");
    let end = text[start..].find("\n\n").map_or(text.len(), |end| start + end + 1);
    let (found, wanted) = (&text[start..end], table());
    assert!(found == wanted, "put this table into docs/headers.md:\n\n{wanted}");
}
