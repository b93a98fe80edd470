//! The names that clients may ask for while the file is read: models, splits and aliases share them.
//!
//! Invariant: who names a table that is in the file is not blamed for what is wrong with that table.

use std::collections::HashMap;

use super::plan::{ModelId, ModelIndex, Named, Target};
use super::reader::{At, Section};

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Model,
    Split,
    Alias,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Model, Kind::Split, Kind::Alias];

    /// The list of its tables.
    const fn list(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::Split => "splits",
            Kind::Alias => "aliases",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Split => "split",
            Kind::Alias => "alias",
        }
    }

    const fn with_article(self) -> &'static str {
        match self {
            Kind::Model => "a model",
            Kind::Split => "a split",
            Kind::Alias => "an alias",
        }
    }
}

/// What the file names, and what was read of it so far.
#[derive(Debug, Default)]
pub struct Index<'a> {
    /// Every name in the file, whatever is wrong with its table.
    mentioned: HashMap<&'a str, Kind>,
    /// What aliases say that they stand for.
    stand_for: HashMap<&'a str, &'a str>,
    /// Of these some table's name cannot be read: it may be any.
    unread: Vec<Kind>,
    taken: HashMap<&'a str, Kind>,
    /// What is faultless.
    sound: ModelIndex,
}

impl<'a> Index<'a> {
    /// Of a file, before its models, splits and aliases are read.
    pub fn new(root: &Section<'a>) -> Self {
        let mut index = Self::default();
        index.unread.extend(root.is_empty("models").then_some(Kind::Model));
        for kind in Kind::ALL {
            for name in root.glance(kind.list(), "name") {
                match name {
                    Some(name) => {
                        index.mentioned.entry(name).or_insert(kind);
                    }
                    None => index.unread.push(kind),
                }
            }
        }
        let list = Kind::Alias.list();
        let pairs = root.glance(list, "name").into_iter().zip(root.glance(list, "model"));
        index.stand_for = pairs.filter_map(|(name, model)| name.zip(model)).collect();
        index
    }

    /// Enters a name that clients may ask for; that it is taken is a fault. `None`: its table is faulty.
    pub fn enter(
        &mut self,
        root: &Section<'_>,
        kind: Kind,
        name: At<&'a str>,
        named: Option<Named>,
    ) {
        if let Some(other) = self.taken.get(name.value) {
            let what = match *other == kind {
                true => format!("two {} are named {:?}", kind.list(), name.value),
                false => {
                    format!(
                        "the {} {:?} has the name of {}",
                        kind.word(),
                        name.value,
                        other.with_article()
                    )
                }
            };
            root.fault(name.at, what, "give each model, split and alias a name of its own");
            return;
        }
        self.taken.insert(name.value, kind);
        if let Some(named) = named {
            self.sound.insert(name.value.into(), named);
        }
    }

    /// The model of that name; that there is none is a fault.
    pub fn model(&self, s: &Section<'_>, name: At<&str>) -> Option<ModelId> {
        match self.one_of(s, &[Kind::Model], name)? {
            Target::Model(id) => Some(id),
            Target::Split(_) => None,
        }
    }

    /// What the name of a model or a split stands for; that there is none is a fault.
    pub fn model_or_split(&self, s: &Section<'_>, name: At<&str>) -> Option<Target> {
        self.one_of(s, &[Kind::Model, Kind::Split], name)
    }

    /// The model that a name of any kind stands for; that it stands for none, or for several, is a fault.
    pub fn single(&self, s: &Section<'_>, name: At<&str>) -> Option<ModelId> {
        match self.one_of(s, &Kind::ALL, name)? {
            Target::Model(id) => Some(id),
            Target::Split(_) => {
                let what = format!("{:?} stands for several models", name.value);
                s.fault(name.at, what, "name one of them");
                None
            }
        }
    }

    /// `None` if there is no such thing, which is a fault, or if there is and it is faulty.
    fn one_of(&self, s: &Section<'_>, kinds: &[Kind], name: At<&str>) -> Option<Target> {
        match self.mentioned.get(name.value) {
            Some(kind) if kinds.contains(kind) => {
                self.sound.get(name.value).map(|named| named.target)
            }
            Some(kind) => self.refuse(s, *kind, kinds, name),
            None => self.refuse_unknown(s, kinds, name),
        }
    }

    fn refuse<T>(&self, s: &Section<'_>, kind: Kind, kinds: &[Kind], name: At<&str>) -> Option<T> {
        let meant = self.stand_for.get(name.value).filter(|_| kind == Kind::Alias);
        let fits = |meant: &&&str| self.mentioned.get(**meant).is_some_and(|k| kinds.contains(k));
        let fix = match (meant.filter(fits), kinds) {
            (Some(meant), _) => format!("name {meant:?}, which it stands for"),
            (None, [_, Kind::Split, ..]) => "name a model or a split".to_owned(),
            (None, _) => "name a model".to_owned(),
        };
        s.fault(name.at, format!("{:?} is {}", name.value, kind.with_article()), fix);
        None
    }

    fn refuse_unknown<T>(&self, s: &Section<'_>, kinds: &[Kind], name: At<&str>) -> Option<T> {
        if kinds.iter().any(|kind| self.unread.contains(kind)) {
            return None;
        }
        let known = self.mentioned.iter().filter(|(_, kind)| kinds.contains(kind));
        let fix = match s.reader.nearest(name.value, known.map(|(known, _)| *known)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("add [[models]] with name = {:?}", name.value),
        };
        s.fault(name.at, format!("there is no model {:?}", name.value), fix);
        None
    }

    /// What a plan looks names up in.
    pub fn into_sound(self) -> ModelIndex {
        self.sound
    }
}
