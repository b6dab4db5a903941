//! A configuration as operators may see it.

use serde_json::{Map, Value};
use toml::Table;

use super::EXAMPLE;

/// Keys whose values are nobody's business.
const SECRET: [&str; 2] = ["headers", "hash"];

/// Every key as it was given, else its default; secrets are masked.
pub(super) fn shown(given: &Table) -> Value {
    let defaults = toml::from_str::<Table>(EXAMPLE).unwrap_or_default();
    let mut all = json(toml::Value::Table(defaults));
    lay_over(&mut all, json(toml::Value::Table(given.clone())));
    all
}

fn lay_over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay_over(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::Table(table) => {
            let entry = |(key, value): (String, toml::Value)| {
                let value = if SECRET.contains(&&*key) { masked(&value) } else { json(value) };
                (key, value)
            };
            Value::Object(table.into_iter().map(entry).collect())
        }
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
    }
}

fn masked(value: &toml::Value) -> Value {
    match value {
        toml::Value::Table(table) => {
            Value::Object(table.keys().map(|key| (key.clone(), "***".into())).collect::<Map<_, _>>())
        }
        _ => "***".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_lies_over_the_defaults_and_secrets_are_masked() {
        let given = "[server]\nthreads = 3\n[upstreams.a]\nbase_url = \"http://h\"\nheaders = { x = \"secret\" }\n\
                     [keys.k]\nhash = \"blake3:secret\"\ntenant = \"t\"\n";
        let shown = shown(&toml::from_str(given).unwrap());
        assert_eq!((&shown["server"]["threads"], &shown["timeouts"]["idle"]), (&3.into(), &"30s".into()));
        assert_eq!(shown["upstreams"]["a"]["headers"]["x"], "***");
        assert_eq!(shown["keys"]["k"]["tenant"], "t");
        assert!(!shown.to_string().contains("secret"));
    }
}
