//! Who sends what, and when.

/// Seconds that are simulated.
pub(crate) const SECONDS: f64 = 600.0;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
    pub(crate) tenants: Vec<Tenant>,
    /// By time of arrival.
    pub(crate) requests: Vec<Request>,
    /// What the scheduler that limits requests allows each tenant in a minute.
    pub(crate) per_minute: u32,
}

pub(crate) struct Tenant {
    pub(crate) group: &'static str,
    pub(crate) weight: f64,
}

#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) tenant: usize,
    pub(crate) arrives: f64,
    pub(crate) input: u64,
    pub(crate) output: u64,
}

/// Fixed random numbers: a linear congruential generator, of which the upper bits are used.
struct Random(u64);

impl Random {
    /// Between 0 and 1, neither of them.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64 + 0.5) / (1_u64 << 31) as f64
    }

    /// Evenly in the logarithm: many short ones, some long ones.
    fn length(&mut self, least: f64, most: f64) -> u64 {
        (least * (most / least).powf(self.unit())).round() as u64
    }

    /// Times of a Poisson process of this rate, while `on`.
    fn arrivals(&mut self, rate: f64, on: impl Fn(f64) -> bool) -> Vec<f64> {
        let mut time = 0.0;
        let next = || {
            time -= self.unit().ln() / rate;
            (time < SECONDS).then_some(time)
        };
        std::iter::from_fn(next).filter(|&time| on(time)).collect()
    }
}

fn requests(tenant: usize, times: Vec<f64>, mut length: impl FnMut() -> (u64, u64)) -> Vec<Request> {
    let request = |arrives| {
        let (input, output) = length();
        Request { tenant, arrives, input, output }
    };
    times.into_iter().map(request).collect()
}

fn merged(mut requests: Vec<Request>) -> Vec<Request> {
    requests.sort_by(|a, b| a.arrives.total_cmp(&b.arrives));
    requests
}

pub(crate) fn all() -> [Scenario; 4] {
    [backlogged(), on_off(), zipf(), weights()]
}

fn backlogged() -> Scenario {
    let mut random = Random(1);
    let mut all = requests(0, random.arrivals(20.0, |_| true), || (64, 64));
    all.extend(requests(1, random.arrivals(6.0, |_| true), || (512, 256)));
    Scenario {
        name: "backlogged",
        title: "Two backlogged tenants",
        about: "One sends 20 short requests a second (64 tokens in, 64 out), the other 6 long ones (512 in, 256 out); each alone is more \
                than the pool can serve.",
        tenants: vec![Tenant { group: "short", weight: 1.0 }, Tenant { group: "long", weight: 1.0 }],
        requests: merged(all),
        per_minute: 120,
    }
}

fn on_off() -> Scenario {
    let mut random = Random(2);
    let mut all = requests(0, random.arrivals(5.0, |_| true), || (128, 128));
    all.extend(requests(1, random.arrivals(8.0, |time| time % 120.0 >= 60.0 && time % 120.0 < 90.0), || {
        (128, 128)
    }));
    Scenario {
        name: "on-off",
        title: "On and off beside steady",
        about: "One sends 5 requests a second all the time, which the pool can serve; the other 8 a second for 30 s, then nothing for 90 s. \
                All have 128 tokens in and 128 out.",
        tenants: vec![Tenant { group: "steady", weight: 1.0 }, Tenant { group: "on and off", weight: 1.0 }],
        requests: merged(all),
        per_minute: 200,
    }
}

fn zipf() -> Scenario {
    const TENANTS: usize = 27;
    let mut random = Random(3);
    let norm: f64 = (1..=TENANTS).map(|rank| 1.0 / rank as f64).sum();
    let mut all = Vec::new();
    for tenant in 0..TENANTS {
        let times = random.arrivals(11.0 / norm / (tenant + 1) as f64, |_| true);
        all.extend(requests(tenant, times, || (random.length(32.0, 1024.0), random.length(16.0, 512.0))));
    }
    let group = |tenant| match tenant {
        0..3 => "first 3",
        3..12 => "next 9",
        _ => "last 15",
    };
    Scenario {
        name: "zipf",
        title: "27 tenants, Zipf",
        about: "11 requests a second in all, the tenant of rank n sending 1/n of what the first sends; 32 to 1,024 tokens in, 16 to 512 out, \
                evenly in the logarithm. The pool can serve about two thirds.",
        tenants: (0..TENANTS).map(|tenant| Tenant { group: group(tenant), weight: 1.0 }).collect(),
        requests: merged(all),
        per_minute: 15,
    }
}

fn weights() -> Scenario {
    let mut random = Random(4);
    let all = (0..3).flat_map(|tenant| requests(tenant, random.arrivals(8.0, |_| true), || (128, 128)));
    Scenario {
        name: "weights",
        title: "Weights 1 : 2 : 4",
        about: "Three backlogged tenants of weights 1, 2 and 4 send the same: 8 requests a second, 128 tokens in and 128 out. Service is \
                divided by the weight. The other schedulers know no weights.",
        tenants: [("weight 1", 1.0), ("weight 2", 2.0), ("weight 4", 4.0)]
            .map(|(group, weight)| Tenant { group, weight })
            .into(),
        requests: merged(all.collect()),
        per_minute: 150,
    }
}
