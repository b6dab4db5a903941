//! How far apart tenants come while both wait: what the paper's theorem is about.

/// The gap between every two tenants, since both have been waiting.
pub(crate) struct Gaps {
    weights: Vec<f64>,
    /// For each pair that waits: the difference of its service when it began to.
    began: Vec<Option<f64>>,
    /// The widest gap in each second.
    seconds: Vec<f64>,
}

impl Gaps {
    pub(crate) fn new(weights: Vec<f64>) -> Self {
        let pairs = weights.len() * weights.len();
        Self { weights, began: vec![None; pairs], seconds: Vec::new() }
    }

    /// Looks at how many requests of each tenant wait and what service it has had.
    pub(crate) fn look(&mut self, time: f64, waiting: &[usize], service: &[f64]) {
        let second = time as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, 0.0);
        }
        let tenants = self.weights.len();
        for a in 0..tenants {
            for b in 0..a {
                let began = &mut self.began[a * tenants + b];
                if waiting[a] == 0 || waiting[b] == 0 {
                    *began = None;
                    continue;
                }
                let now = service[a] / self.weights[a] - service[b] / self.weights[b];
                let gap = (now - *began.get_or_insert(now)).abs();
                self.seconds[second] = self.seconds[second].max(gap);
            }
        }
    }

    /// By time.
    pub(crate) fn points(self) -> Vec<(f64, f64)> {
        self.seconds.into_iter().enumerate().map(|(second, gap)| (second as f64, gap)).collect()
    }
}
