use std::{
    collections::HashSet,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{patch, post},
};
use cap_std::fs::OpenOptions;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rustls::crypto::aws_lc_rs;
use tokio::{sync::Notify, time::timeout};

use super::{FileError, Root};

/// What uploads may take.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Bytes of one upload.
    pub size: u64,
    /// How long a client may send nothing within a request.
    pub idle: Duration,
}

impl Default for UploadLimits {
    /// 1 GiB; 60 s.
    fn default() -> Self {
        Self { size: 1024 * 1024 * 1024, idle: Duration::from_mins(1) }
    }
}

/// A router that takes uploads which can go on after they broke off: [tus 1.0] with the extensions `creation` and
/// `termination`, below a path such as `/uploads`. `POST` to it announces one and gets its address, `PATCH` sends what is missing, `HEAD` says where to go on,
/// `DELETE` gives it up.
///
/// What came is in the file `<id>` below the root while it is incomplete as `<id>.part`; what was acknowledged is on the disk.
///
/// [tus 1.0]: https://tus.io/protocols/resumable-upload
pub fn uploads(path: &str, root: Root, limits: UploadLimits) -> Router {
    let path = path.trim_end_matches('/');
    let uploads = Arc::new(Uploads {
        path: path.to_owned(),
        root,
        limits,
        busy: Mutex::default(),
        freed: Notify::new(),
    });
    Router::new()
        .route(path, post(announce).options(describe))
        .route(&format!("{path}/{{id}}"), patch(send).head(state).delete(give_up).options(describe))
        .with_state(uploads)
}

struct Uploads {
    path: String,
    root: Root,
    limits: UploadLimits,
    /// Uploads that somebody sends or gives up now.
    busy: Mutex<HashSet<String>>,
    /// One of them is free again.
    freed: Notify,
}

/// One upload for oneself. Writes hold it too: one that has begun goes on when its request is gone.
struct Hold {
    uploads: Arc<Uploads>,
    id: String,
}

impl Uploads {
    fn busy(&self) -> MutexGuard<'_, HashSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a moment for whoever has the upload: a client that comes back may be faster than the end of its broken
    /// request.
    async fn hold(self: &Arc<Self>, id: &str) -> Option<Arc<Hold>> {
        let free = async {
            loop {
                let freed = self.freed.notified();
                if self.busy().insert(id.to_owned()) {
                    return Arc::new(Hold { uploads: Arc::clone(self), id: id.to_owned() });
                }
                freed.await;
            }
        };
        timeout(PATIENCE, free).await.ok()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.uploads.busy().remove(&self.id);
        self.uploads.freed.notify_waiters();
    }
}

const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
const OFFSET: &str = "upload-offset";
const LENGTH: &str = "upload-length";
const RESUMABLE: &str = "tus-resumable";
/// How long a request waits for another of the same upload.
const PATIENCE: Duration = Duration::from_secs(1);
/// One write to the disk takes about this many bytes.
const PIECE: usize = 256 * 1024;

/// An answer of the protocol.
fn answer(status: StatusCode, more: impl IntoIterator<Item = (&'static str, String)>) -> Response {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    headers.insert(RESUMABLE, VERSION);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in more {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    response
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Why a request of the protocol is refused.
fn refused(headers: &HeaderMap) -> Option<Response> {
    let version = headers.get(RESUMABLE).is_some_and(|version| version == VERSION);
    (!version).then(|| answer(StatusCode::PRECONDITION_FAILED, [("tus-version", "1.0.0".to_owned())]))
}

async fn describe(State(uploads): State<Arc<Uploads>>) -> Response {
    answer(
        StatusCode::NO_CONTENT,
        [
            ("tus-version", "1.0.0".to_owned()),
            ("tus-extension", "creation,termination".to_owned()),
            ("tus-max-size", uploads.limits.size.to_string()),
        ],
    )
}

/// `POST`: makes a place for an upload whose length is known.
async fn announce(State(uploads): State<Arc<Uploads>>, headers: HeaderMap) -> Result<Response, FileError> {
    if let Some(refused) = refused(&headers) {
        return Ok(refused);
    }
    let Some(length) = number(&headers, LENGTH) else { return Ok(answer(StatusCode::BAD_REQUEST, [])) };
    if length > uploads.limits.size {
        return Ok(answer(StatusCode::PAYLOAD_TOO_LARGE, []));
    }
    // Whoever knows the address may send, so it must not be guessed.
    let mut random = [0; 16];
    if aws_lc_rs::default_provider().secure_random.fill(&mut random).is_err() {
        return Ok(answer(StatusCode::SERVICE_UNAVAILABLE, []));
    }
    let id = format!("{:032x}", u128::from_be_bytes(random));
    let (length_of, part) = (format!("{id}.length"), format!("{id}.part"));
    let whole = id.clone();
    let make = move |dir: &cap_std::fs::Dir| {
        dir.write(length_of, length.to_string())?;
        dir.open_with(&part, OpenOptions::new().write(true).create_new(true))?.sync_all()?;
        if length == 0 { dir.rename(part, dir, whole) } else { Ok(()) }
    };
    uploads.root.call(&id, make).await?;
    let location = format!("{}/{id}", uploads.path);
    Ok(answer(StatusCode::CREATED, [("location", location), (OFFSET, "0".to_owned())]))
}

/// How far an upload has come.
struct Progress {
    offset: u64,
    length: u64,
}

impl Uploads {
    async fn progress(&self, id: &str) -> Result<Progress, FileError> {
        // Ids are ours: anything else names no upload, least of all a file.
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(FileError::NotFound(id.to_owned()));
        }
        let own = id.to_owned();
        let look = move |dir: &cap_std::fs::Dir| {
            let length = dir.read_to_string(format!("{own}.length"))?;
            let length = length.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let offset = match dir.metadata(format!("{own}.part")) {
                Ok(part) => part.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => dir.metadata(&own)?.len(),
                Err(error) => return Err(error),
            };
            Ok(Progress { offset, length })
        };
        self.root.call(id, look).await
    }
}

/// `HEAD`: where to go on.
async fn state(
    State(uploads): State<Arc<Uploads>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, FileError> {
    if let Some(refused) = refused(&headers) {
        return Ok(refused);
    }
    let Progress { offset, length } = uploads.progress(&id).await?;
    Ok(answer(StatusCode::OK, [(OFFSET, offset.to_string()), (LENGTH, length.to_string())]))
}

/// `PATCH`: takes what comes from an offset on. What came before the connection broke is kept.
async fn send(
    State(uploads): State<Arc<Uploads>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, FileError> {
    if let Some(refused) = refused(&headers) {
        return Ok(refused);
    }
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/offset+octet-stream") {
        return Ok(answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, []));
    }
    let Some(hold) = uploads.hold(&id).await else { return Ok(answer(StatusCode::LOCKED, [])) };
    let Progress { offset, length } = uploads.progress(&id).await?;
    if number(&headers, OFFSET) != Some(offset) || offset == length {
        return Ok(answer(StatusCode::CONFLICT, [(OFFSET, offset.to_string())]));
    }
    let Some(end) = uploads.receive(&hold, body, offset, length).await? else {
        return Ok(answer(StatusCode::PAYLOAD_TOO_LARGE, []));
    };
    if end == length {
        let own = id.clone();
        uploads.root.call(&id, move |dir| dir.rename(format!("{own}.part"), dir, own)).await?;
    }
    Ok(answer(StatusCode::NO_CONTENT, [(OFFSET, end.to_string())]))
}

impl Uploads {
    /// Writes a body from an offset on. Returns where it ended, or nothing when it is longer than announced.
    async fn receive(
        &self,
        hold: &Arc<Hold>,
        body: Body,
        offset: u64,
        length: u64,
    ) -> Result<Option<u64>, FileError> {
        let (mut pieces, mut at, mut held) = (body.into_data_stream(), offset, Vec::new());
        let id = &hold.id;
        let part: Arc<str> = format!("{id}.part").into();
        loop {
            // A connection that breaks or falls silent ends the request, and keeps what came.
            let next = match timeout(self.limits.idle, pieces.next()).await {
                Ok(Some(Ok(piece))) => Some(piece),
                Ok(Some(Err(_)) | None) | Err(_) => None,
            };
            let over = next.is_none();
            held.extend_from_slice(&next.unwrap_or_default());
            if at + held.len() as u64 > length {
                return Ok(None);
            }
            if held.len() >= PIECE || (over && !held.is_empty()) {
                let (part, piece, hold) = (Arc::clone(&part), std::mem::take(&mut held), Arc::clone(hold));
                let len = piece.len() as u64;
                let write = move |dir: &cap_std::fs::Dir| {
                    let file = dir.open_with(&*part, OpenOptions::new().write(true))?.into_std();
                    let _hold = hold;
                    file.write_all_at(&piece, at)
                };
                self.root.call(id, write).await?;
                at += len;
            }
            if over {
                let part = Arc::clone(&part);
                let sync = move |dir: &cap_std::fs::Dir| {
                    dir.open_with(&*part, OpenOptions::new().write(true))?.sync_data()
                };
                self.root.call(id, sync).await?;
                return Ok(Some(at));
            }
        }
    }
}

/// `DELETE`: gives an upload up.
async fn give_up(
    State(uploads): State<Arc<Uploads>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, FileError> {
    if let Some(refused) = refused(&headers) {
        return Ok(refused);
    }
    let Some(_hold) = uploads.hold(&id).await else { return Ok(answer(StatusCode::LOCKED, [])) };
    uploads.progress(&id).await?;
    let own = id.clone();
    let remove = move |dir: &cap_std::fs::Dir| {
        let part = dir.remove_file(format!("{own}.part"));
        let whole = dir.remove_file(&own);
        dir.remove_file(format!("{own}.length"))?;
        part.or(whole)
    };
    uploads.root.call(&id, remove).await?;
    Ok(answer(StatusCode::NO_CONTENT, []))
}
