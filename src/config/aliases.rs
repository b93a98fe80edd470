//! `[[aliases]]`: other names for models and splits, pointed elsewhere by a reload.

use super::index::{Index, Kind};
use super::names;
use super::plan::{Alias, Named, OtherNameId};
use super::reader::Section;

/// Each alias is a name in the model list and in the index of names.
const ALIASES_MAX: usize = 4096;

/// Reads every `[[aliases]]` table. `others`: the names that are no model's own; an alias is one. It stands
/// for no other alias, so that each says what it means.
pub fn read<'a>(
    root: &Section<'a>,
    index: &mut Index<'a>,
    others: &mut Vec<Box<str>>,
) -> Vec<Alias> {
    let mut aliases = Vec::new();
    let read = root.tables("aliases", |s| {
        let name = names::name(s, "name", "gpt-4o");
        let model = s.required("model", "llama-3.1-8b");
        (name, model.and_then(|model| index.model_or_split(s, model)))
    });
    for (name, target) in read {
        let Some(name) = name else { continue };
        let id = OtherNameId(u16::try_from(others.len()).unwrap_or(u16::MAX));
        let named = target.map(|target| Named { target, other: Some(id) });
        index.enter(root, Kind::Alias, name, named);
        if let Some(target) = target {
            others.push(name.value.into());
            aliases.push(Alias { name: name.value.into(), target });
        }
    }
    if aliases.len() > ALIASES_MAX {
        let at = root.given("aliases").unwrap_or_default();
        root.fault(at, "too many [[aliases]]", format!("keep at most {ALIASES_MAX}"));
    }
    aliases
}
