//! What somebody may use.

use super::super::{Limits, Shape, section::Section};

/// Beyond this a limit is none, and arithmetic stays exact below it.
const MOST: u64 = 1_000_000_000_000;

/// The table `limits` of a section.
pub(super) fn limits(parent: &mut Section<'_>) -> Limits {
    let mut section = parent.section("limits");
    let mut most = |key| section.integer(key, 1..=MOST);
    let mut limits = Limits {
        requests_per_second: most("requests_per_second"),
        requests_per_minute: most("requests_per_minute"),
        requests_burst: most("requests_burst"),
        tokens_per_minute: most("tokens_per_minute"),
        input_tokens_per_minute: most("input_tokens_per_minute"),
        output_tokens_per_minute: most("output_tokens_per_minute"),
        tokens_per_day: most("tokens_per_day"),
        concurrent_streams: most("concurrent_streams"),
        max_tokens: most("max_tokens"),
        frames_per_second: most("frames_per_second"),
        ..Limits::default()
    };
    limits.bytes_per_second = pace(&mut section);
    let shape = section.string("shape").is_some();
    limits.shape = section.choice("shape", Shape::NAMES, Shape::default());
    limits.shape_burst = section.duration("shape_burst");
    if limits.requests_burst.is_some()
        && limits.requests_per_second.is_none()
        && limits.requests_per_minute.is_none()
    {
        let problem = "means nothing without `requests_per_second` or `requests_per_minute`";
        section.fault("requests_burst", problem, None);
    }
    if limits.bytes_per_second.is_none() && limits.frames_per_second.is_none() {
        for key in [shape.then_some("shape"), limits.shape_burst.map(|_| "shape_burst")].into_iter().flatten()
        {
            section.fault(key, "means nothing without `bytes_per_second` or `frames_per_second`", None);
        }
    }
    section.finish();
    limits
}

fn pace(section: &mut Section<'_>) -> Option<u64> {
    match section.size("bytes_per_second", 1..=1 << 40, 0) {
        0 => None,
        bytes => Some(bytes as u64),
    }
}
