//! What concerns streams that outlive connections, and pages of other origins.

use flumen_wire::transport::Coding;

use super::{
    super::{
        Backpressure, Cors, Resume, StoreKind,
        load::relative,
        section::{Section, meant},
    },
    Context,
};

pub(super) fn compression(section: &mut Section<'_>) -> Vec<Coding> {
    let names: Vec<_> = Coding::ALL.iter().map(|coding| coding.as_str()).collect();
    let mut codings = Vec::new();
    for name in section.strings("compression").unwrap_or_default() {
        if let Some(coding) = Coding::ALL.into_iter().find(|coding| coding.as_str() == name) {
            codings.push(coding);
        } else {
            let hint = meant(&name, &names).unwrap_or_else(|| format!("known: {}", names.join(", ")));
            section.fault("compression", format_args!("`{name}` is not a coding"), Some(hint));
        }
    }
    codings
}

pub(super) fn resume(mut section: Section<'_>, default: &Resume, context: &Context) -> Resume {
    let resume = Resume {
        enabled: section.boolean("enabled").unwrap_or(default.enabled),
        grace: section.duration("grace").unwrap_or(default.grace),
        retention: section.duration("retention").unwrap_or(default.retention),
        stream_size: section.size("stream_size", 64 << 10..=1 << 30, default.stream_size),
        budget: section.size("budget", 1 << 20..=1 << 40, default.budget),
        backpressure: section.choice("backpressure", Backpressure::NAMES, default.backpressure),
        store: store(&mut section, context),
    };
    section.finish();
    resume
}

fn store(section: &mut Section<'_>, context: &Context) -> StoreKind {
    let disk = section.choice("store", &[("memory", false), ("disk", true)], false);
    let folder = section.string("folder");
    let flush = section.boolean("flush");
    match folder {
        Some(folder) if disk => {
            StoreKind::Disk { folder: relative(&context.folder, &folder), flush: flush.unwrap_or(false) }
        }
        None if disk => {
            let hint = "for example folder = \"/var/lib/flumen/streams\"".to_owned();
            section.fault("folder", "streams on disk need a folder", Some(hint));
            StoreKind::Memory
        }
        _ => {
            for key in [folder.map(|_| "folder"), flush.map(|_| "flush")].into_iter().flatten() {
                section.fault(key, "means nothing without store = \"disk\"", None);
            }
            StoreKind::Memory
        }
    }
}

pub(super) fn cors(mut section: Section<'_>) -> Cors {
    let origins = section.strings("origins").unwrap_or_default();
    let credentials = section.boolean("credentials").unwrap_or(false);
    for origin in &origins {
        if origin != "*" && !is_origin(origin) {
            let hint = "scheme and host, for example https://chat.example.com".to_owned();
            section.fault("origins", format_args!("`{origin}` is not an origin"), Some(hint));
        }
    }
    if credentials && origins.iter().any(|origin| origin == "*") {
        section.fault(
            "credentials",
            "credentials for any origin would let every web page act as its visitor",
            None,
        );
    }
    section.finish();
    Cors { origins, credentials }
}

/// As browsers write it: scheme, host, perhaps a port, and nothing after it.
pub(crate) fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    }) && *text == text.to_ascii_lowercase()
}
