use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// What a service did so far.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) started: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) deltas: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) pauses: AtomicU64,
    pub(super) paused: AtomicU64,
    pub(super) paused_micros: AtomicU64,
}

impl Stats {
    /// Generations that run.
    pub fn running(&self) -> u64 {
        let over =
            [&self.finished, &self.failed, &self.cancelled].map(|count| count.load(Relaxed)).iter().sum();
        self.started.load(Relaxed).saturating_sub(over)
    }

    /// Generations that were begun.
    pub fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// Generations that nobody wanted to the end.
    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Relaxed)
    }

    /// Generations that wait for their readers now.
    pub fn paused(&self) -> u64 {
        self.paused.load(Relaxed)
    }

    /// Bytes of messages that generations have written.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// How long generations have waited for their readers, all together.
    pub fn paused_for(&self) -> Duration {
        Duration::from_micros(self.paused_micros.load(Relaxed))
    }

    /// All of it for Prometheus.
    pub fn text(&self) -> String {
        let ended = "flumen_service_generations_ended_total";
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        let paused = self.paused_micros.load(Relaxed) as f64 / 1e6;
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{name} {value}");
        };
        line("flumen_service_generations_started_total", &self.started.load(Relaxed));
        line("flumen_service_generations_running", &self.running());
        for (cause, count) in
            [("finished", &self.finished), ("failed", &self.failed), ("cancelled", &self.cancelled)]
        {
            line(&format!("{ended}{{cause=\"{cause}\"}}"), &count.load(Relaxed));
        }
        line("flumen_service_deltas_total", &self.deltas.load(Relaxed));
        line("flumen_service_bytes_total", &self.bytes.load(Relaxed));
        line("flumen_service_pauses_total", &self.pauses.load(Relaxed));
        line("flumen_service_generations_paused", &self.paused.load(Relaxed));
        line("flumen_service_paused_seconds_total", &paused);
        text
    }
}
