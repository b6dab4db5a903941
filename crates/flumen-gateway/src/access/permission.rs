//! Lists of names and patterns, as the configuration has them for models.

/// Whether a list has a name: literally, or by a pattern that ends with `*`.
pub(super) fn allows(list: &[String], name: &str) -> bool {
    list.iter().any(|allowed| matches(allowed, name))
}

/// Whether everything that `inner` allows is allowed by `outer`.
pub(super) fn covers(outer: &[String], inner: &[String]) -> bool {
    // A pattern is covered by one that is a prefix of it, which is the same comparison with its own star as text.
    inner.iter().all(|inner| allows(outer, inner) && (!inner.ends_with('*') || by_pattern(outer, inner)))
}

fn by_pattern(outer: &[String], inner: &str) -> bool {
    let inner = inner.strip_suffix('*').unwrap_or(inner);
    outer.iter().any(|outer| outer.strip_suffix('*').is_some_and(|prefix| inner.starts_with(prefix)))
}

fn matches(allowed: &str, name: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => allowed == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn patterns_allow_what_begins_like_them() {
        let models = list(&["gpt-*", "sim"]);
        assert!(allows(&models, "gpt-4o") && allows(&models, "sim"));
        assert!(!allows(&models, "gpt") && !allows(&models, "sim:fast") && !allows(&[], "sim"));
    }

    #[test]
    fn a_wider_list_covers_a_narrower_one() {
        let covered = |outer: &[&str], inner: &[&str]| covers(&list(outer), &list(inner));
        assert!(covered(&["*"], &["gpt-*", "x"]) && covered(&["gpt-*"], &["gpt-4*", "gpt-4o"]));
        assert!(covered(&["a", "b"], &["b"]) && covered(&["a"], &[]));
        assert!(!covered(&["gpt-4*"], &["gpt-*"]) && !covered(&["a"], &["a*"]) && !covered(&["a"], &["b"]));
    }
}
