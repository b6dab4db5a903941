//! What stands in a header's entries by name: metadata, and errors of the business.

use std::collections::BTreeMap;

use super::Info;
use crate::{Business, Metadata};

/// The service's name in the contract.
pub(super) const SERVICE: &str = "isn";
/// Who cancelled, and through whose hands that went, with commas between.
pub(super) const CANCEL_PATH: &str = "ttscp";
/// The gRPC code of an error, which the numbers of Kitex do not tell. Kitex does not look at it.
pub(super) const CODE: &str = "grpc-status";

const TRANSIENT: &str = "RPC_TRANSIT_";
/// Values that were for the hop before; they stop here.
const UPSTREAM: &str = "RPC_TRANSIT_UPSTREAM_";
const PERSISTENT: &str = "RPC_PERSIST_";
/// The one key that does not follow the rule; see [`Info`].
const TOKEN: &str = "gdpr-token";

const BUSINESS_CODE: &str = "biz-status";
const BUSINESS_MESSAGE: &str = "biz-message";
const BUSINESS_EXTRA: &str = "biz-extra";

fn is_reserved(name: &str) -> bool {
    matches!(name, SERVICE | CANCEL_PATH | CODE | BUSINESS_CODE | BUSINESS_MESSAGE | BUSINESS_EXTRA)
}

/// Entries by name, in the making.
#[derive(Debug, Default)]
pub(super) struct Strings(Vec<(String, String)>);

impl Strings {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let mut own = Self::default();
        for (key, value) in metadata.plain.iter().filter(|(key, _)| !is_reserved(key)) {
            own.put(key, value);
        }
        own.put_prefixed(TRANSIENT, &metadata.transient);
        own.put_prefixed(PERSISTENT, &metadata.persistent);
        own
    }

    pub(super) fn put(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Kitex's own conversion from HTTP: capitals, and `_` between words.
    fn put_prefixed(&mut self, prefix: &str, values: &BTreeMap<String, String>) {
        for (key, value) in values {
            let key = if key == TOKEN { key.clone() } else { key.to_uppercase().replace('-', "_") };
            self.put(format!("{prefix}{key}"), value);
        }
    }

    pub(super) fn put_business(&mut self, business: &Business) {
        self.put(BUSINESS_CODE, business.code.to_string());
        self.put(BUSINESS_MESSAGE, &business.message);
        if !business.extra.is_empty()
            && let Ok(extra) = serde_json::to_string(&business.extra)
        {
            self.put(BUSINESS_EXTRA, extra);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// The value of an entry. Of several, the last counts.
pub(super) fn entry(info: &Info, name: &str) -> Option<String> {
    let found = info.named().filter(|(key, _)| *key == name.as_bytes()).last();
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

/// What a header carries besides what belongs to the protocol.
pub(super) fn metadata(info: &Info) -> Metadata {
    let mut metadata = Metadata::default();
    for (name, value) in info.named() {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        let own = |key: &str| key.to_lowercase().replace('_', "-");
        let (map, key) =
            if let Some(key) = name.strip_prefix(UPSTREAM).or_else(|| name.strip_prefix(TRANSIENT)) {
                (&mut metadata.transient, own(key))
            } else if let Some(key) = name.strip_prefix(PERSISTENT) {
                (&mut metadata.persistent, own(key))
            } else if is_reserved(&name) {
                continue;
            } else {
                (&mut metadata.plain, name.into_owned())
            };
        map.insert(key, value.into_owned());
    }
    metadata
}

/// An error of the service's business, if a header carries one.
pub(super) fn business(info: &Info) -> Option<Business> {
    let code = entry(info, BUSINESS_CODE)?.parse().ok().filter(|code| *code != 0)?;
    Some(Business {
        code,
        message: entry(info, BUSINESS_MESSAGE).unwrap_or_default(),
        extra: entry(info, BUSINESS_EXTRA)
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default(),
    })
}
