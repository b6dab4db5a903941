//! What has to be looked after while the gateway runs: keys that expire, and issuers whose keys are fetched.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use flumen_wire::client::{Client, Endpoint, Options, Request};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::{
    Access,
    issuer::{Issuer, url},
    jwks::{self, KeySet},
};
use crate::config::Jwks;

/// A set of keys is a few kilobytes.
const LARGEST: usize = 1 << 20;
const LONGEST: Duration = Duration::from_secs(10);
/// After a failure the next attempt comes so soon, or when the keys are due if that is sooner.
const AGAIN: Duration = Duration::from_secs(15);
/// The wall clock may be set, so a far moment is looked at again.
const LOOK: Duration = Duration::from_mins(1);

impl Access {
    /// Runs as long as the gateway does, on one core.
    pub(crate) async fn tend(&self) {
        let mut fetching: HashMap<String, (Arc<Issuer>, AbortOnDropHandle<()>)> = HashMap::new();
        loop {
            let roster = self.roster();
            fetching.retain(|name, (issuer, _)| {
                roster.issuers.get(name).is_some_and(|now| Arc::ptr_eq(now, issuer))
            });
            for (name, issuer) in &roster.issuers {
                if let Jwks::Url(address) = &issuer.settings.keys
                    && !fetching.contains_key(name)
                {
                    let task = tokio::spawn(keep_fresh(Arc::clone(issuer), address.clone()));
                    fetching.insert(name.clone(), (Arc::clone(issuer), AbortOnDropHandle::new(task)));
                }
            }
            let now = SystemTime::now();
            let next = self.expire(now).and_then(|next| next.duration_since(now).ok());
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(next.map_or(LOOK, |next| next.min(LOOK))) => {}
            }
        }
    }
}

async fn keep_fresh(issuer: Arc<Issuer>, address: String) {
    // The configuration was checked.
    let Ok((endpoint, path)) = url(&address) else { return };
    loop {
        let keys = timeout(LONGEST, fetch(&endpoint, &path))
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let wait = match keys {
            Ok(keys) => {
                debug!("the keys of {} are here", issuer.settings.issuer);
                issuer.take(Some(keys));
                issuer.settings.refresh
            }
            Err(problem) => {
                warn!("the keys of {} cannot be fetched from {address}: {problem}", issuer.settings.issuer);
                issuer.take(None);
                AGAIN.min(issuer.settings.refresh)
            }
        };
        tokio::select! {
            () = issuer.missed.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

async fn fetch(endpoint: &Endpoint, path: &str) -> Result<KeySet, String> {
    let client = Client::new(endpoint.clone(), Options::default()).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let request = Request { method: Method::GET, path: path.to_owned(), headers, body: bytes::Bytes::new() };
    let mut response = client.send(&request).await.map_err(|error| error.to_string())?;
    if response.status != StatusCode::OK {
        return Err(format!("the server answers with status {}", response.status.as_u16()));
    }
    let mut body = BytesMut::new();
    while let Some(piece) = response.body.piece().await {
        body.extend_from_slice(&piece.map_err(|error| error.to_string())?);
        if body.len() > LARGEST {
            return Err("the answer is larger than 1 MiB".to_owned());
        }
    }
    jwks::parse(&body).map_err(|problem| format!("the answer {problem}"))
}
