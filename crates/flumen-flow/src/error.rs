use std::{borrow::Cow, error, fmt, time::Duration};

/// What a task comes to.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a task failed, and where in its flow.
///
/// Any [`std::error::Error`] turns into one with `?`. It is of the kind [`ErrorKind::Failed`] and not retryable, until
/// [`retryable`](Self::retryable) or [`ResultExt::or_retry`] says so.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    /// From the outermost named task to the one that failed.
    path: String,
    message: Cow<'static, str>,
    retryable: bool,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The task said so.
    Failed,
    /// The task panicked.
    Panicked,
    /// The run, the branch or the work was cancelled, or whoever waited for it has left.
    Cancelled,
    /// A time limit ran out.
    TimedOut,
    /// A bounded queue was full, or its executor has ended.
    Refused,
    /// A value that the task needs is not there.
    Missing,
    /// Too few tasks of a group succeeded.
    TooFew,
}

impl ErrorKind {
    /// The kind as logs and events spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Missing => "missing",
            Self::TooFew => "too_few",
        }
    }
}

impl Error {
    /// An error of a kind, with a sentence for the person who reads it.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let inner =
            Inner { kind, path: String::new(), message: message.into(), retryable: false, source: None };
        Self { inner: Box::new(inner) }
    }

    /// A failure of the task's own.
    pub fn failed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    pub(crate) fn timed_out(after: Duration) -> Self {
        Self::new(ErrorKind::TimedOut, format!("took longer than {after:?}"))
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::new(ErrorKind::Panicked, format!("panicked: {}", said.unwrap_or("without a message")))
    }

    /// Marks the failure as one that another try may mend; see [`Task::retry`](crate::Task::retry).
    pub fn retryable(mut self) -> Self {
        self.inner.retryable = true;
        self
    }

    /// The same error with what caused it.
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Puts the name of an enclosing task before the path.
    pub(crate) fn within(mut self, name: &str) -> Self {
        let path = &mut self.inner.path;
        if path.is_empty() {
            name.clone_into(path);
        } else {
            path.insert(0, '/');
            path.insert_str(0, name);
        }
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether another try may mend it.
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// Whether a time limit ran out.
    pub fn is_timeout(&self) -> bool {
        self.inner.kind == ErrorKind::TimedOut
    }

    /// The names of the tasks from the outermost to the one that failed, joined by `/`. Empty when none has a name.
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// What happened, without the path.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The error that caused it, if it is of this type.
    pub fn source_as<E: error::Error + 'static>(&self) -> Option<&E> {
        self.inner.source.as_ref()?.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.inner.path.is_empty() {
            write!(f, "{}: ", self.inner.path)?;
        }
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut source = self.inner.source.as_ref().and_then(|source| source.source());
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl<E: error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self::failed(error.to_string()).with_source(error)
    }
}

/// The error as a standard one, for callers outside a flow.
#[derive(Debug)]
struct Standard(Error);

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for Standard {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.inner.source.as_ref().map(|source| &**source as _)
    }
}

impl From<Error> for Box<dyn error::Error + Send + Sync> {
    fn from(error: Error) -> Self {
        Box::new(Standard(error))
    }
}

impl From<Error> for Box<dyn error::Error> {
    fn from(error: Error) -> Self {
        Box::new(Standard(error))
    }
}

/// What `?` alone does not say.
pub trait ResultExt<T> {
    /// Turns an error into one that [`Task::retry`](crate::Task::retry) tries again.
    fn or_retry(self) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for std::result::Result<T, E> {
    fn or_retry(self) -> Result<T> {
        self.map_err(|error| error.into().retryable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_grows_from_the_inside() {
        let error = Error::failed("no route").within("fetch").within("checkout");
        assert_eq!((error.path(), &*error.to_string()), ("checkout/fetch", "checkout/fetch: no route"));
    }

    #[test]
    fn standard_errors_keep_their_type() {
        let broken = || -> Result<()> { Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe))? };
        let error = broken().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert_eq!(error.source_as::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::BrokenPipe);
        assert!(broken().or_retry().unwrap_err().is_retryable());
    }
}
