//! The one tool call the model makes when `tool_choice` demands one, with arguments that fit the
//! tool's schema.

use super::body::Body;
use crate::text::tokens::pieces;
use serde_json::{Map, Value};

/// A call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

impl ToolCall {
    /// The call that `body` demands: the named tool, or the first one where any will do.
    pub fn demanded(body: &Body<'_>) -> Option<ToolCall> {
        let choice: Value = serde_json::from_str(body.tool_choice?.get()).ok()?;
        let tools: Vec<Value> = serde_json::from_str(body.tools?.get()).ok()?;
        let named = name_of(&choice);
        let any = matches!(choice.as_str(), Some("required"))
            || matches!(choice["type"].as_str(), Some("any" | "required"));
        let tool = match named {
            Some(name) => tools.iter().find(|tool| name_of(tool) == Some(name))?,
            None if any => tools.first()?,
            None => return None,
        };
        Some(Self { name: name_of(tool)?.to_string(), arguments: arguments(tool) })
    }

    /// The pieces the model says: one token for the name, then the arguments.
    pub fn script(&self) -> Vec<String> {
        std::iter::once(String::new()).chain(pieces(&self.arguments).map(String::from)).collect()
    }
}

/// `function.name` in chat, `name` in the other APIs.
fn name_of(tool: &Value) -> Option<&str> {
    tool["function"]["name"].as_str().or_else(|| tool["name"].as_str())
}

fn arguments(tool: &Value) -> String {
    let schema = [&tool["function"]["parameters"], &tool["parameters"], &tool["input_schema"]];
    let empty = Map::new();
    let properties =
        schema.iter().find_map(|schema| schema["properties"].as_object()).unwrap_or(&empty);
    let filled = properties.iter().map(|(name, schema)| (name.clone(), example(schema)));
    Value::Object(filled.collect()).to_string()
}

fn example(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("integer") => Value::from(7),
        Some("number") => Value::from(1.5),
        Some("boolean") => Value::Bool(true),
        Some("array") => Value::Array(Vec::new()),
        Some("object") => Value::Object(Map::new()),
        _ => Value::from("river bank"),
    }
}
