/// How many run at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concurrency {
    most: Option<u64>,
    held: u64,
}

impl Concurrency {
    /// At most so many; `None` counts only.
    pub fn new(most: Option<u64>) -> Self {
        Self { most, held: 0 }
    }

    /// Another bound. Those that run go on.
    pub fn set(&mut self, most: Option<u64>) {
        self.most = most;
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        self.most.is_none_or(|most| self.held < most)
    }

    /// One more runs.
    pub fn begin(&mut self) {
        self.held += 1;
    }

    /// One has ended.
    pub fn end(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// How many run.
    pub fn held(&self) -> u64 {
        self.held
    }
}
