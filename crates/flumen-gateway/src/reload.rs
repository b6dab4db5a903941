//! Taking over a changed configuration while the gateway runs: a flow that repeats until the gateway stops.

use std::{path::PathBuf, sync::Arc, time::Duration};

use flumen_flow::{Backoff, Context, Error, Result, Task, branch, executor::Executor, task};
use tokio::{sync::Notify, time::sleep};
use tracing::{error, info, warn};

use crate::{
    config::{ConfigError, Loaded},
    gateway::Control,
};

/// How often files are looked at. Asking works on every file system and with every way to replace a file.
const LOOK: Duration = Duration::from_secs(1);

/// The files whose change means that the configuration is to be read again.
#[derive(Clone, Debug)]
pub struct Watch {
    files: Vec<(PathBuf, Option<Fingerprint>)>,
}

type Fingerprint = (std::time::SystemTime, u64);

impl Watch {
    /// Watches these files, starting now.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files: files.into_iter().map(|file| (file.clone(), fingerprint(&file))).collect() }
    }

    /// Watches other files. Those that were watched before are compared with what they were when that was last asked, so that a
    /// change while they were being read is not missed.
    fn of(&self, files: Vec<PathBuf>) -> Self {
        let seen = |file: &PathBuf| self.files.iter().find(|(known, _)| known == file).map(|(_, seen)| *seen);
        let files = files.into_iter().map(|file| {
            let seen = seen(&file).unwrap_or_else(|| fingerprint(&file));
            (file, seen)
        });
        Self { files: files.collect() }
    }

    /// Whether a file has changed since this was last asked.
    fn changed(&mut self) -> bool {
        let mut changed = false;
        for (file, seen) in &mut self.files {
            let now = fingerprint(file);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

/// Following links, so that a mount whose link is swapped counts as changed.
fn fingerprint(file: &std::path::Path) -> Option<Fingerprint> {
    let metadata = file.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// What goes round: the files, and whether the configuration is to be read again.
#[derive(Clone)]
struct Round {
    watch: Watch,
    due: bool,
}

/// A flow that reads the configuration again whenever one of its files has changed or somebody notifies it, and puts it in
/// force: all of it or nothing. It goes on until its run is asked to stop. Files are read on threads of their own.
pub fn reloading<L>(control: Control, load: L, asked: Arc<Notify>) -> impl Task<Input = Watch, Output = ()>
where
    L: Fn() -> Result<Loaded, ConfigError> + Send + Sync + 'static,
{
    let files = Executor::blocking().queue("configuration");
    let look = files.task(|mut round: Round| {
        round.due = round.watch.changed();
        Ok(round)
    });
    let wait = task(move |cx: Context, round: Round| {
        let asked = Arc::clone(&asked);
        async move {
            let due = tokio::select! {
                () = asked.notified() => true,
                () = sleep(LOOK) => false,
                () = cx.stopping() => return Err(Error::failed("stopping")),
            };
            Ok(Round { due, ..round })
        }
    });
    let reload = files.task(move |mut round: Round| {
        round.due = false;
        round.watch.changed();
        if let Ok((files, _)) = take_over(&control, &load) {
            round.watch = round.watch.of(files);
        }
        Ok(round)
    });
    let keep = |_: Context, round: Round| async move { Ok(round) };
    let looked = branch(|round: &Round| round.due, task(keep), look);
    let round =
        wait.chain(looked).chain(branch(|round: &Round| round.due, reload.named("reload"), task(keep)));
    task(|_, watch: Watch| async move { Ok(Round { watch, due: false }) })
        .chain(round.repeat().forever(Backoff::endless()))
        .then(|_, _| async { Ok(()) })
        .catch(|cx, error| if cx.is_stopping() { Ok(()) } else { Err(error) })
        .named("configuration")
}

/// Reads the configuration again and puts it in force, all of it or nothing. Returns the settings that take effect only after a
/// restart.
///
/// # Errors
/// What is wrong with it, in words.
pub fn reload(
    control: &Control,
    load: impl Fn() -> Result<Loaded, ConfigError>,
) -> Result<Vec<&'static str>, String> {
    take_over(control, &load).map(|(_, fixed)| fixed)
}

/// Returns the files to watch from now on, too.
fn take_over(
    control: &Control,
    load: &impl Fn() -> Result<Loaded, ConfigError>,
) -> Result<(Vec<PathBuf>, Vec<&'static str>), String> {
    let refused = |problem: &dyn std::fmt::Display| {
        error!("the new configuration is refused, the old one stays in force:\n{problem}");
        problem.to_string()
    };
    let _alone = control.taking_over();
    let loaded = load().map_err(|error| refused(&error))?;
    let files = loaded.files.clone();
    let fixed = control.reload(loaded).map_err(|error| refused(&error))?;
    if fixed.is_empty() {
        info!("the new configuration is in force");
    } else {
        warn!("the new configuration is in force, except for what needs a restart: {}", fixed.join(", "));
    }
    Ok((files, fixed))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::{Gateway, config::Config};

    fn config(body: &str) -> Result<Loaded, ConfigError> {
        let text = format!("[server]\nthreads = 1\nlisten = \"127.0.0.1:0\"\nmax_body_size = \"{body}\"\n");
        Config::parse(&text, Path::new("x"), std::iter::empty())
    }

    #[test]
    fn an_older_configuration_never_follows_a_newer_one() {
        let gateway = Gateway::bind(config("1KiB").unwrap()).unwrap();
        let (begun, begins) = mpsc::sync_channel(1);
        let (done, ends) = mpsc::sync_channel(1);
        let control = gateway.control();
        let slow = thread::spawn(move || {
            reload(&control, || {
                let older = config("2KiB");
                begun.send(()).unwrap();
                // Time enough for the newer one to overtake it, if it could.
                let _ = ends.recv_timeout(Duration::from_millis(200));
                older
            })
        });
        begins.recv().unwrap();
        reload(&gateway.control(), || config("3KiB")).unwrap();
        let _ = done.try_send(());
        slow.join().unwrap().unwrap();
        assert_eq!(gateway.control().config().server.max_body_size, 3 << 10);
    }
}
