use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets the process open as many files as the system allows it. Every stream takes two sockets, and the usual soft
/// limit of 1024 exists for programs that use `select`.
pub(crate) fn allow_all() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        eprintln!("flumen: the limit of open files stays at {:?}: {error}", limit.current);
    }
}
