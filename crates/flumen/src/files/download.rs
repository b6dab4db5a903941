use std::{fs::Metadata, io, os::unix::fs::MetadataExt, time::SystemTime};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::StreamExt;
use headers::{
    AcceptRanges, ContentLength, ContentRange, ETag, HeaderMapExt, IfModifiedSince, IfNoneMatch, IfRange,
    LastModified,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_range_header::{RangeUnsatisfiableError, parse_range_header};

use super::{FileError, Root};

/// A router that serves the files below a root: `GET` and `HEAD`, with `ETag`, `Last-Modified`, conditions, and one range
/// (RFC 9110, sections 13 and 14). Who asks for several ranges at once gets the whole file.
///
/// Directories are not listed.
pub fn downloads(root: Root) -> Router {
    Router::new().route("/{*path}", get(download)).with_state(root)
}

async fn download(
    State(root): State<Root>,
    Path(path): Path<String>,
    method: Method,
    asked: HeaderMap,
) -> Result<Response, FileError> {
    let (file, metadata) = root.file(&path).await?;
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let (tag, last_modified) = (etag(&metadata), LastModified::from(modified));
    let mut headers = HeaderMap::new();
    headers.typed_insert(tag.clone());
    headers.typed_insert(last_modified);
    headers.typed_insert(AcceptRanges::bytes());
    let known = match asked.typed_get::<IfNoneMatch>() {
        Some(condition) => !condition.precondition_passes(&tag),
        None => asked.typed_get::<IfModifiedSince>().is_some_and(|since| !since.is_modified(modified)),
    };
    if known {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let kind = mime_guess::from_path(&path).first_or_octet_stream();
    if let Ok(kind) = HeaderValue::from_str(kind.as_ref()) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    // What a browser takes a file for is ours to say, not its content's.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let length = metadata.len();
    let unchanged = asked
        .typed_get::<IfRange>()
        .is_none_or(|condition| !condition.is_modified(Some(&tag), Some(&last_modified)));
    let (status, start, end) = match wanted(asked.get(header::RANGE).filter(|_| unchanged), length) {
        Wanted::All => (StatusCode::OK, 0, length),
        Wanted::Part(start, end) => (StatusCode::PARTIAL_CONTENT, start, end),
        Wanted::Nothing => {
            headers.typed_insert(ContentRange::unsatisfied_bytes(length));
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = ContentRange::bytes(start..end, length)
    {
        headers.typed_insert(range);
    }
    headers.typed_insert(ContentLength(end - start));
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let pieces = file.stream(start, end - start);
        Body::from_stream(pieces.map(|piece| piece.map_err(|end| io::Error::other(end.to_string()))))
    };
    Ok((status, headers, body).into_response())
}

/// Changes with every change of the file.
fn etag(metadata: &Metadata) -> ETag {
    let tag = format!(
        "\"{:x}-{:x}-{:x}.{:x}\"",
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    tag.parse().expect("hexadecimal digits in quotes are a tag")
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// From here up to, but not including.
    Part(u64, u64),
    Nothing,
}

fn wanted(range: Option<&HeaderValue>, length: u64) -> Wanted {
    // A range that cannot be understood is as good as none (RFC 9110, section 14.2).
    let Some(range) = range.and_then(|range| parse_range_header(range.to_str().ok()?).ok()) else {
        return Wanted::All;
    };
    match range.validate(length).as_deref() {
        Ok([range]) => Wanted::Part(*range.start(), range.end() + 1),
        Ok(_) | Err(RangeUnsatisfiableError::OverlappingRanges) => Wanted::All,
        // The last so many bytes of a file that has fewer.
        Err(RangeUnsatisfiableError::FileSuffixOutOfBounds) if length > 0 => Wanted::Part(0, length),
        Err(_) => Wanted::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(value));
            wanted(headers.get(header::RANGE), 10)
        };
        assert_eq!(of("bytes=0-3"), Wanted::Part(0, 4));
        assert_eq!(of("bytes=7-"), Wanted::Part(7, 10));
        assert_eq!(of("bytes=7-99"), Wanted::Part(7, 10));
        assert_eq!(of("bytes=-4"), Wanted::Part(6, 10));
        assert_eq!(of("bytes=-99"), Wanted::Part(0, 10));
        assert_eq!(of("bytes=10-"), Wanted::Nothing);
        assert_eq!(of("bytes=0-1,4-5"), Wanted::All);
        assert_eq!(of("lines=0-1"), Wanted::All);
        assert_eq!(of("nonsense"), Wanted::All);
    }
}
