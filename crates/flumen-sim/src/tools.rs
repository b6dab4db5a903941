//! Calls of tools.

use serde_json::{Map, Value, json};

use crate::request::Asked;

/// A call that the simulated model decides to make.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    /// A JSON object as text.
    pub(crate) arguments: String,
}

/// Whether the request leads to a call: when it is demanded, or when the user speaks of tools or of the function.
pub(crate) fn decide(asked: &Asked) -> Option<ToolCall> {
    let choice = asked.tool_choice.as_ref();
    if choice.is_some_and(|choice| choice == "none") {
        return None;
    }
    let functions: Vec<_> = asked.tools.iter().flatten().map(|tool| &tool["function"]).collect();
    let named = choice.and_then(|choice| choice["function"]["name"].as_str());
    let said = asked.last_text().to_lowercase();
    let spoken_of = |function: &&&Value| {
        function["name"].as_str().is_some_and(|name| said.contains(&name.to_lowercase()))
            || said.contains("tool")
    };
    let function = match named {
        Some(name) => functions.iter().find(|function| function["name"] == name),
        None if choice.is_some_and(|choice| choice == "required") => functions.first(),
        None => functions.iter().find(spoken_of),
    }?;
    let arguments = Value::Object(arguments(&function["parameters"])).to_string();
    Some(ToolCall { name: function["name"].as_str()?.to_owned(), arguments })
}

/// An object that fits the schema's first level.
fn arguments(schema: &Value) -> Map<String, Value> {
    let Some(properties) = schema["properties"].as_object() else { return Map::new() };
    properties.iter().map(|(name, schema)| (name.clone(), value(name, schema))).collect()
}

fn value(name: &str, schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("integer") => json!(7),
        Some("number") => json!(3.5),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        Some("null") => Value::Null,
        _ => json!(format!("a {name} by the river 🌊")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, choice: &Value) -> Asked {
        serde_json::from_value(json!({
            "messages": [{"role": "user", "content": text}], "tool_choice": choice,
            "tools": [{"type": "function", "function": {"name": "get_level", "parameters": {"type": "object", "properties": {
                "place": {"type": "string"}, "unit": {"enum": ["m", "ft"]}, "days": {"type": "integer"}}}}}],
        }))
        .unwrap()
    }

    #[test]
    fn calls_fit_the_schema() {
        let call = decide(&asked("please", &json!("required"))).unwrap();
        assert_eq!(call.name, "get_level");
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        assert_eq!((&arguments["unit"], &arguments["days"]), (&json!("m"), &json!(7)));
    }

    #[test]
    fn calls_are_made_when_they_are_meant() {
        assert!(decide(&asked("hello", &Value::Null)).is_none());
        assert!(decide(&asked("use GET_LEVEL now", &json!("auto"))).is_some());
        assert!(decide(&asked("use a tool", &json!("none"))).is_none());
        assert!(
            decide(&asked("x", &json!({"type": "function", "function": {"name": "get_level"}}))).is_some()
        );
    }
}
