//! From text and environment to a checked configuration.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{
    Config, ConfigError, Fault, Loaded,
    check::{Context, check},
    section::KeyFault,
    shown::shown,
};

/// A configuration larger than this is none.
const MAX_FILE: usize = 1 << 20;
/// Variables that are not keys.
const RESERVED: [&str; 2] = ["FLUMEN_CONFIG", "FLUMEN_LOG"];

/// The name under which the command line's addresses come with the variables. They win, being the last.
pub const LISTEN: &str = "--listen";

/// The environment's say: a key path, and the variable that sets it.
struct Override {
    path: Vec<String>,
    variable: String,
}

impl Config {
    /// Reads a file, or starts from the embedded default, and applies `FLUMEN_*` variables: `FLUMEN_SERVER__LISTEN`
    /// sets `server.listen`.
    ///
    /// # Errors
    /// All faults together.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let Some(path) = path else { return Self::parse("", Path::new(""), env) };
        let unreadable = |problem: String| {
            let source = path.display().to_string();
            ConfigError {
                faults: vec![Fault { source, line: None, key: String::new(), problem, hint: None }],
            }
        };
        let bytes = fs::read(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable("is not UTF-8".to_owned()))?;
        let mut loaded = Self::parse(&text, path, env)?;
        loaded.files.push(path.to_owned());
        Ok(loaded)
    }

    /// Checks a text that stands in the file `source`.
    ///
    /// # Errors
    /// All faults together.
    pub fn parse(
        text: &str,
        source: &Path,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let file = source.display().to_string();
        let fault = |line, problem| {
            let faults = vec![Fault { source: file.clone(), line, key: String::new(), problem, hint: None }];
            ConfigError { faults }
        };
        if text.len() > MAX_FILE {
            return Err(fault(None, "is larger than 1 MiB".to_owned()));
        }
        let mut table: Table = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| line_at(text, span.start));
            fault(line, error.message().trim().replace('\n', "; "))
        })?;
        let (variables, overrides) = apply(env, &mut table);
        let mut faults = Vec::new();
        let folder = source.parent().unwrap_or(Path::new("")).to_owned();
        let mut context = Context { folder, variables, files: Vec::new(), located: Vec::new() };
        let config = check(&table, &mut context, &mut faults);
        if faults.is_empty() && context.located.is_empty() {
            return Ok(Loaded { config, files: context.files, shown: shown(&table) });
        }
        let mut faults = located(faults, text, &file, &overrides);
        faults.append(&mut context.located);
        Err(ConfigError { faults })
    }
}

/// Puts the variables in the table. Also returns all variables, since keys of upstreams are among them.
fn apply(
    env: impl Iterator<Item = (String, String)>,
    table: &mut Table,
) -> (Vec<(String, String)>, Vec<Override>) {
    let variables: Vec<_> = env.collect();
    let mut overrides = Vec::new();
    for (variable, value) in &variables {
        let key = if variable == LISTEN { Some("SERVER__LISTEN") } else { variable.strip_prefix("FLUMEN_") };
        let Some(key) = key else { continue };
        if RESERVED.contains(&variable.as_str()) {
            continue;
        }
        let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
        set(table, &path, value_of(value));
        overrides.push(Override { path, variable: variable.clone() });
    }
    (variables, overrides)
}

/// What is not a TOML value by itself is a string.
fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    match parsed.and_then(|mut table| table.remove("value").filter(|_| table.is_empty())) {
        // A date is not something a key could mean.
        Some(value) if !value.is_datetime() => value,
        _ => Value::String(text.to_owned()),
    }
}

fn set(table: &mut Table, path: &[String], value: Value) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    if !inner.is_table() {
        *inner = Value::Table(Table::new());
    }
    if let Some(inner) = inner.as_table_mut() {
        set(inner, rest, value);
    }
}

/// Gives faults their lines, and puts them in the order of the file.
fn located(faults: Vec<KeyFault>, text: &str, file: &str, overrides: &[Override]) -> Vec<Fault> {
    let spans = DeTable::parse(text).ok();
    let line = |path: &[String]| Some(line_at(text, position(spans.as_ref()?, path)?));
    let mut faults: Vec<_> = faults.into_iter().map(|fault| locate(fault, file, overrides, line)).collect();
    faults.sort_by_key(|fault| fault.line);
    faults
}

/// Reads another file that is part of the configuration, and reports what is wrong in it.
pub(super) fn in_file(
    text: &str,
    path: &Path,
    found: &mut Vec<Fault>,
    read: impl FnOnce(&Table, &mut Vec<KeyFault>),
) {
    let source = path.display().to_string();
    match toml::from_str::<Table>(text) {
        Ok(table) => {
            let mut faults = Vec::new();
            read(&table, &mut faults);
            if !faults.is_empty() {
                found.append(&mut located(faults, text, &source, &[]));
            }
        }
        Err(error) => {
            let line = error.span().map(|span| line_at(text, span.start));
            let problem = error.message().trim().replace('\n', "; ");
            found.push(Fault { source, line, key: String::new(), problem, hint: None });
        }
    }
}

fn locate(
    fault: KeyFault,
    file: &str,
    overrides: &[Override],
    line: impl Fn(&[String]) -> Option<usize>,
) -> Fault {
    let KeyFault { path, problem, hint } = fault;
    let key = path.join(".");
    let line = line(&path);
    // A variable that sets a key hides what the file says of it; one that only makes its table does not.
    let variable = overrides
        .iter()
        .find(|each| path.starts_with(&each.path) || (line.is_none() && each.path.starts_with(&path)));
    match variable {
        Some(each) => Fault { source: each.variable.clone(), line: None, key, problem, hint },
        None if file.is_empty() => Fault { source: "built-in default".to_owned(), line, key, problem, hint },
        None => Fault { source: file.to_owned(), line, key, problem, hint },
    }
}

/// Where a key stands; of a key that is missing, where its table does.
fn position(table: &toml::Spanned<DeTable<'_>>, path: &[String]) -> Option<usize> {
    let mut inner = table.get_ref();
    let mut found = None;
    for segment in path {
        let Some((key, value)) = inner.get_key_value(segment.as_str()) else { break };
        found = Some(key.span().start);
        match value.get_ref() {
            DeValue::Table(table) => inner = table,
            _ => break,
        }
    }
    found
}

fn line_at(text: &str, at: usize) -> usize {
    memchr::memchr_iter(b'\n', &text.as_bytes()[..at.min(text.len())]).count() + 1
}

/// A path in the file is relative to the file.
pub(super) fn relative(folder: &Path, path: &str) -> PathBuf {
    folder.join(path)
}
