//! The shape of JSON and of event streams: keys in their order and types of values, nothing else.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Every leaf's path and type, in order of first appearance: `choices[].delta.content string`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape(pub Vec<String>);

/// The shape of a JSON text; `None` if it is none.
pub fn shape(json: &str) -> Option<Shape> {
    serde_json::from_str(json).ok()
}

/// An event: its name, and the shape of its data or, if that is no JSON, the data itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: Shape,
}

/// The events of a stream, runs of equal ones shortened to one.
pub fn outline(stream: &str) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for event in stream.split("\n\n").filter(|event| !event.trim().is_empty()) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ").expect("an event has data");
        let data = shape(data).unwrap_or_else(|| Shape(vec![data.to_string()]));
        let event = Event { name: field("event: ").unwrap_or_default().to_string(), data };
        if events.last() != Some(&event) {
            events.push(event);
        }
    }
    events
}

impl Shape {
    fn add(&mut self, path: String) {
        if !self.0.contains(&path) {
            self.0.push(path);
        }
    }

    /// Adds what stands at `key`.
    fn add_below(&mut self, key: &str, below: Shape) {
        for path in below.0 {
            match path.starts_with(['[', ' ']) {
                true => self.add(format!("{key}{path}")),
                false => self.add(format!("{key}.{path}")),
            }
        }
    }

    fn leaf(kind: &str) -> Self {
        Self(vec![format!(" {kind}")])
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::leaf("null"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::leaf("bool"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::leaf("integer"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::leaf("integer"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::leaf("float"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::leaf("string"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::default();
        while let Some(item) = items.next_element::<Shape>()? {
            shape.add_below("[]", item);
        }
        if shape.0.is_empty() {
            shape.add("[] empty".to_string());
        }
        Ok(shape)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::default();
        while let Some((key, value)) = members.next_entry::<String, Shape>()? {
            shape.add_below(&key, value);
        }
        if shape.0.is_empty() {
            shape.add(" {}".to_string());
        }
        Ok(shape)
    }
}
