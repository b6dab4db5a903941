//! CPU time and memory of other processes, from `/proc`.

use std::{fs, io, path::Path};

/// A process that cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("process {pid} cannot be watched: {source}")]
pub struct ProcessError {
    pid: u32,
    source: io::Error,
}

/// What processes had used at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// CPU time, in nanoseconds.
    pub(crate) cpu: u64,
    /// Resident memory, in KiB.
    pub(crate) resident: u64,
}

impl Sample {
    pub(crate) fn take(pids: &[u32]) -> Result<Self, ProcessError> {
        let mut sum = Self::default();
        for &pid in pids {
            let process = Path::new("/proc").join(pid.to_string());
            let failed = |source| ProcessError { pid, source };
            sum.cpu += cpu(&process).map_err(failed)?;
            sum.resident += resident(&process).map_err(failed)?;
        }
        Ok(sum)
    }
}

/// Nanoseconds on a CPU, from the scheduler's books: clock ticks would be too coarse for short runs.
fn cpu(process: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(process.join("task"))? {
        // A thread may end while the list is read.
        let Ok(books) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += books.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(sum)
}

fn resident(process: &Path) -> io::Result<u64> {
    let status = fs::read_to_string(process.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let before = Sample::take(&[std::process::id()]).unwrap();
        assert!(before.resident > 100);
        let mut spin = 0_u64;
        while Sample::take(&[std::process::id()]).unwrap().cpu == before.cpu {
            spin += 1;
            assert!(spin < 1_000_000, "time passes");
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Sample::take(&[u32::MAX]).unwrap_err();
        assert!(error.to_string().contains("4294967295"), "{error}");
    }
}
