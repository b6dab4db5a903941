//! Where limits stand, in headers: as OpenAI names them, and as `draft-ietf-httpapi-ratelimit-headers` does.

use std::time::Duration;

use flumen_admit::limit::Level;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Name;

/// The headers for the tightest limit of requests and the tightest of tokens. Each level comes with the place of its scope.
pub(super) fn of(levels: &[(usize, Level)], names: &[Name]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let (mut policies, mut states) = (Vec::new(), Vec::new());
    let tightest = |wanted: fn(&Level) -> bool| {
        let fitting = levels.iter().filter(move |(_, level)| wanted(level));
        fitting.min_by_key(|(_, level)| (level.remaining, level.limit))
    };
    for (unit, found) in [
        ("requests", tightest(|level| level.kind.counts_requests())),
        ("tokens", tightest(|level| level.kind.counts_tokens())),
    ] {
        let Some((place, level)) = found else { continue };
        let mut put = |what: &str, value: String| {
            let name = HeaderName::try_from(format!("x-ratelimit-{what}-{unit}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        };
        put("limit", level.limit.to_string());
        put("remaining", level.remaining.to_string());
        put("reset", duration(level.reset));
        let scope = names.get(*place).map_or("gateway", Name::kind);
        let policy = format!("{scope}-{}", level.kind.as_str().replace('_', "-"));
        let window = level.kind.window().unwrap_or_default().as_secs();
        let quota_unit = if unit == "tokens" { ";qu=\"tokens\"" } else { "" };
        policies.push(format!("\"{policy}\";q={};w={window}{quota_unit}", level.limit));
        let seconds = level.reset.as_secs() + u64::from(level.reset.subsec_nanos() > 0);
        states.push(format!("\"{policy}\";r={};t={seconds}", level.remaining));
    }
    for (name, items) in [("ratelimit-policy", policies), ("ratelimit", states)] {
        if let (false, Ok(value)) = (items.is_empty(), HeaderValue::try_from(items.join(", "))) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// As OpenAI writes a time: `20ms`, `1.5s`, `6m0s`.
fn duration(time: Duration) -> String {
    let millis = time.as_millis() + u128::from(!time.subsec_nanos().is_multiple_of(1_000_000));
    let (minutes, millis_left) = (millis / 60_000, millis % 60_000);
    let seconds = |millis: u128| match millis % 1000 {
        0 => format!("{}s", millis / 1000),
        rest => format!("{}.{}s", millis / 1000, format!("{rest:03}").trim_end_matches('0')),
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) if millis_left > 0 && millis_left < 1000 => format!("{millis_left}ms"),
        (0, 0) => seconds(millis_left),
        (0, minutes) => format!("{minutes}m{}", seconds(millis_left)),
        (hours, minutes) => format!("{hours}h{minutes}m{}", seconds(millis_left)),
    }
}

#[cfg(test)]
mod tests {
    use flumen_admit::limit::Kind;

    use super::*;

    #[test]
    fn times_are_written_as_openai_does() {
        let written = |millis| duration(Duration::from_millis(millis));
        let cases = [
            (0, "0s"),
            (20, "20ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (360_000, "6m0s"),
            (3_601_010, "1h0m1.01s"),
        ];
        for (millis, expected) in cases {
            assert_eq!(written(millis), expected);
        }
        assert_eq!(duration(Duration::from_nanos(1)), "1ms");
    }

    #[test]
    fn the_tightest_limit_of_each_unit_is_told() {
        let level = |kind, limit, remaining, seconds| Level {
            kind,
            limit,
            remaining,
            reset: Duration::from_secs(seconds),
        };
        let names = [Name::Gateway, Name::Key("secret-name".into())];
        let headers = of(
            &[
                (0, level(Kind::RequestsPerMinute, 100, 50, 30)),
                (1, level(Kind::RequestsPerMinute, 10, 9, 6)),
                (1, level(Kind::TokensPerDay, 1000, 700, 3600)),
                (0, level(Kind::TokensPerMinute, 5000, 4000, 12)),
            ],
            &names,
        );
        for (name, value) in [
            ("x-ratelimit-limit-requests", "10"),
            ("x-ratelimit-remaining-requests", "9"),
            ("x-ratelimit-reset-requests", "6s"),
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "700"),
            ("x-ratelimit-reset-tokens", "1h0m0s"),
            (
                "ratelimit-policy",
                "\"key-requests-per-minute\";q=10;w=60, \"key-tokens-per-day\";q=1000;w=86400;qu=\"tokens\"",
            ),
            ("ratelimit", "\"key-requests-per-minute\";r=9;t=6, \"key-tokens-per-day\";r=700;t=3600"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert!(of(&[], &names).is_empty());
    }
}
