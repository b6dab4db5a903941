//! One table of the file, read key by key. What is not read is unknown.

use std::{
    fmt::Display,
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use toml::{Table, Value};

use super::size;

/// A fault that knows its key but not yet its line.
pub(super) struct KeyFault {
    pub(super) path: Vec<String>,
    pub(super) problem: String,
    pub(super) hint: Option<String>,
}

/// One table, and the faults found in it so far.
pub(super) struct Section<'a> {
    path: Vec<String>,
    table: Option<&'a Table>,
    known: Vec<&'static str>,
    faults: &'a mut Vec<KeyFault>,
}

impl<'a> Section<'a> {
    pub(super) fn new(path: Vec<String>, table: Option<&'a Table>, faults: &'a mut Vec<KeyFault>) -> Self {
        Self { path, table, known: Vec::new(), faults }
    }

    /// Reports a fault of one of the section's keys.
    pub(super) fn fault(&mut self, key: &str, problem: impl Display, hint: Option<String>) {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        self.faults.push(KeyFault { path, problem: problem.to_string(), hint });
    }

    /// Reports a fault of a key further down.
    pub(super) fn fault_at(&mut self, keys: &[&str], problem: impl Display, hint: Option<String>) {
        let path = self.path.iter().cloned().chain(keys.iter().map(|&key| key.to_owned())).collect();
        self.faults.push(KeyFault { path, problem: problem.to_string(), hint });
    }

    /// Whether a key is given at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.table?.get(key)
    }

    /// Takes a value if it has the right type and passes its check.
    fn take<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let taken = read(value);
        if taken.is_none() {
            self.fault(key, format_args!("{} is not {expected}", shown(value)), None);
        }
        taken
    }

    /// A table within this one.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'_> {
        let table = self.take(key, "a table", Value::as_table);
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Section::new(path, table, self.faults)
    }

    /// A table within this one, if it is there.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Section<'_>> {
        let table = self.take(key, "a table", Value::as_table)?;
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Some(Section::new(path, Some(table), self.faults))
    }

    /// The tables of a map: their names, and each as a section.
    pub(super) fn map(&mut self, key: &'static str, mut each: impl FnMut(&str, Section<'_>)) -> bool {
        let Some(table) = self.take(key, "a table", Value::as_table) else { return false };
        for (name, value) in table {
            let mut path = self.path.clone();
            path.extend([key.to_owned(), name.clone()]);
            if name.is_empty() {
                self.faults.push(KeyFault {
                    path,
                    problem: "a name must not be empty".to_owned(),
                    hint: None,
                });
                continue;
            }
            if let Some(table) = value.as_table() {
                each(name, Section::new(path, Some(table), self.faults));
            } else {
                let problem = format!("{} is not a table", shown(value));
                self.faults.push(KeyFault { path, problem, hint: None });
            }
        }
        true
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<String> {
        self.take(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A string that no fault may show.
    pub(super) fn secret_string(&mut self, key: &'static str) -> Option<String> {
        self.get(key)?.as_str().map(str::to_owned)
    }

    /// A moment, as a string or a TOML date and time. One without a zone is none, since it means another moment elsewhere.
    pub(super) fn moment(&mut self, key: &'static str) -> Option<SystemTime> {
        self.take(key, "a moment such as \"2027-01-01T00:00:00Z\"", |value| {
            let text =
                value.as_str().map(str::to_owned).or_else(|| value.as_datetime().map(ToString::to_string))?;
            humantime::parse_rfc3339(&text).ok()
        })
    }

    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.take(key, "a string or a list of strings", |value| match value {
            Value::String(one) => Some(vec![one.clone()]),
            Value::Array(many) => many.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        })
    }

    pub(super) fn pairs(&mut self, key: &'static str) -> Vec<(String, String)> {
        let read = |value: &Value| {
            let table = value.as_table()?;
            table.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
        };
        self.take(key, "a table of strings", read).unwrap_or_default()
    }

    pub(super) fn numbers(&mut self, key: &'static str) -> Vec<(String, f64)> {
        let read = |value: &Value| {
            let number = |value: &Value| {
                value.as_float().or_else(|| Some(f64::from(i32::try_from(value.as_integer()?).ok()?)))
            };
            value.as_table()?.iter().map(|(name, value)| Some((name.clone(), number(value)?))).collect()
        };
        self.take(key, "a table of numbers", read).unwrap_or_default()
    }

    /// One of a list of names.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, names: &[(&str, T)], default: T) -> T {
        let Some(given) = self.string(key) else { return default };
        if let Some((_, choice)) = names.iter().find(|(name, _)| *name == given) {
            return *choice;
        }
        let list: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        self.fault(key, format_args!("`{given}` is not one of {}", list.join(", ")), meant(&given, &list));
        default
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let read = |value: &Value| humantime::parse_duration(value.as_str()?).ok();
        let given = self.take(key, "a duration such as \"5s\", \"250ms\" or \"1m 30s\"", read)?;
        if given.is_zero() || given > Duration::from_hours(24) {
            self.fault(key, "a duration must be more than 0 and at most 24h", None);
            return None;
        }
        Some(given)
    }

    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<usize>, default: usize) -> usize {
        let read = |value: &Value| match value {
            Value::String(text) => size::parse(text),
            Value::Integer(bytes) => usize::try_from(*bytes).ok(),
            _ => None,
        };
        let given = self.take(key, "a size such as \"64KiB\", \"10MB\" or 4096", read);
        let show = |bytes: &usize| size::show(*bytes);
        self.within(key, given, &range, show).unwrap_or(default)
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.take(key, "true or false", Value::as_bool)
    }

    pub(super) fn integer<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let given = self.take(key, "a whole number that fits", |value| T::try_from(value.as_integer()?).ok());
        self.within(key, given, &range, T::to_string)
    }

    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "configured numbers are small")]
        let read = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        let given = self.take(key, "a number", read);
        self.within(key, given, &range, f64::to_string)
    }

    fn within<T: PartialOrd>(
        &mut self,
        key: &'static str,
        given: Option<T>,
        range: &RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let given = given?;
        if range.contains(&given) {
            return Some(given);
        }
        let (low, high) = (show(range.start()), show(range.end()));
        self.fault(key, format_args!("{} is not between {low} and {high}", show(&given)), None);
        None
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(mut self) {
        let Some(table) = self.table else { return };
        let known = std::mem::take(&mut self.known);
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = meant(key, &known).unwrap_or_else(|| format!("known keys: {}", known.join(", ")));
            self.fault(key, "unknown key", Some(hint));
        }
    }
}

/// What was probably meant.
pub(super) fn meant(given: &str, known: &[&str]) -> Option<String> {
    let close = |name: &&&str| strsim::normalized_damerau_levenshtein(given, name) > 0.6;
    let best = known.iter().filter(close).max_by(|a, b| {
        let score = |name: &str| strsim::normalized_damerau_levenshtein(given, name);
        score(a).total_cmp(&score(b))
    });
    best.map(|name| format!("did you mean `{name}`?"))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 40 { format!("{}…", text.chars().take(40).collect::<String>()) } else { text }
}
