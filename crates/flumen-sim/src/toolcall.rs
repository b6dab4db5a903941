//! Answers that call a tool.

use serde_json::{Map, Value};

use crate::{
    error::ApiError,
    hash::mix,
    request::{Function, Message, Request},
};

const WORDS: [&str; 8] = ["harbour", "river", "morning", "lantern", "Lisbon", "blue", "tide", "letter"];

/// The function that the answer is to call, if any: one that must be, or one that the user speaks of.
///
/// A result of a tool is answered with text, unless a call is required: otherwise a client that runs tools in a loop
/// would never come to an end.
pub(crate) fn wanted<'a>(
    request: &'a Request,
    messages: &[Message],
    user: &str,
) -> Result<Option<&'a Function>, ApiError> {
    let tools = request.tools.as_deref().unwrap_or_default();
    let functions = || tools.iter().filter_map(|tool| tool.function.as_ref());
    let mentioned = || functions().find(|function| user.contains(&function.name));
    match request.tool_choice.as_ref().unwrap_or(&Value::Null) {
        Value::Object(choice) => {
            let name =
                choice.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
            let chosen = functions().find(|function| Some(&*function.name) == name);
            let missing = || ApiError::invalid("tool_choice", "`tool_choice` names none of the `tools`");
            chosen.ok_or_else(missing).map(Some)
        }
        Value::String(choice) if choice == "none" => Ok(None),
        Value::String(choice) if choice == "required" => Ok(mentioned().or_else(|| functions().next())),
        _ if messages.last().is_some_and(|last| last.role == "tool") => Ok(None),
        _ => {
            let speaks_of_tools = || user.to_lowercase().contains("tool");
            Ok(mentioned().or_else(|| functions().next().filter(|_| speaks_of_tools())))
        }
    }
}

/// Arguments that fit the function's schema at the top level, as a JSON object.
pub(crate) fn arguments(function: &Function, seed: u64) -> String {
    let properties = function.parameters.as_ref().and_then(|schema| schema.get("properties"));
    let mut arguments = Map::new();
    let mut seed = mix(seed);
    for (name, schema) in properties.and_then(Value::as_object).into_iter().flatten() {
        seed = mix(seed);
        arguments.insert(name.clone(), value(schema, seed));
    }
    Value::Object(arguments).to_string()
}

/// Some value of a schema.
fn value(schema: &Value, seed: u64) -> Value {
    if let Some(fixed) = schema.get("const") {
        return fixed.clone();
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array).filter(|choices| !choices.is_empty())
    {
        return choices[pick(seed, choices.len())].clone();
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        kind => kind.and_then(Value::as_str),
    };
    match kind {
        Some("integer") => integer(schema, seed),
        Some("number") => number(schema, seed),
        Some("boolean") => Value::from(seed.is_multiple_of(2)),
        Some("array") => Value::Array(Vec::new()),
        Some("object") => Value::Object(Map::new()),
        Some("null") => Value::Null,
        _ => Value::from(WORDS[pick(seed, WORDS.len())]),
    }
}

fn integer(schema: &Value, seed: u64) -> Value {
    let bound = |name| schema.get(name).and_then(Value::as_i64);
    let least = bound("minimum").unwrap_or_else(|| bound("maximum").map_or(1, |most| most.min(1)));
    let most = bound("maximum").unwrap_or(i64::MAX).max(least);
    let room = most.abs_diff(least).min(99) + 1;
    Value::from(least.saturating_add_unsigned(seed % room))
}

fn number(schema: &Value, seed: u64) -> Value {
    let bound = |name| schema.get(name).and_then(Value::as_f64);
    let least = bound("minimum").unwrap_or_else(|| bound("maximum").map_or(0.0, |most| most.min(0.0)));
    let room = bound("maximum").map_or(100.0, |most| (most - least).clamp(0.0, 100.0));
    // In quarters of the range: short to write, and no rounding leads out of it.
    let quarters = f64::from(u32::try_from(seed % 4).unwrap_or_default());
    Value::from(least + room * quarters / 4.0)
}

fn pick(seed: u64, of: usize) -> usize {
    usize::try_from(seed % of as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_fit_their_schema() {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer", "minimum": 3, "maximum": 5},
            "depth": {"type": ["number", "null"], "maximum": -5}, "exact": {"type": "boolean"}, "tags": {"type": "array"},
            "where": {"type": "object"}, "free": {}, "always": {"const": 7},
        }});
        let function = Function { name: "f".to_owned(), parameters: schema.as_object().cloned() };
        for seed in 0..50 {
            let arguments: Value = serde_json::from_str(&arguments(&function, seed)).unwrap();
            assert!(arguments["city"].is_string() && arguments["free"].is_string());
            assert!(["C", "F"].contains(&arguments["unit"].as_str().unwrap()));
            assert!((3..=5).contains(&arguments["days"].as_i64().unwrap()));
            assert!(arguments["depth"].as_f64().unwrap() <= -5.0);
            assert!(arguments["exact"].is_boolean());
            assert_eq!((&arguments["tags"], &arguments["where"]), (&json!([]), &json!({})));
            assert_eq!(arguments["always"], 7);
        }
        assert_eq!(super::arguments(&Function { name: "g".to_owned(), parameters: None }, 1), "{}");
    }
}
