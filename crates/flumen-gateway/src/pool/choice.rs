//! Which of the candidates gets the next request.

use crate::config::Balance;

/// An upstream that could take the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its place in the pool.
    pub at: usize,
    /// Its weight, less while it starts slowly.
    pub weight: f64,
    pub in_flight: usize,
    /// How long its first token is likely to take, in seconds, where that is known.
    pub first_token: Option<f64>,
    /// What tells it from others, whatever else is in the pool.
    pub print: u64,
}

/// Chooses. `turns` has an entry for each upstream of the pool; `key` is what consistent hashing goes by.
pub(super) fn choose(
    balance: &Balance,
    candidates: &[Candidate],
    key: Option<u64>,
    turns: &mut [f64],
) -> Option<usize> {
    let chosen = match (balance, key) {
        (Balance::LeastInFlight, _) => least(candidates, load),
        (Balance::Fastest, _) => fastest(candidates),
        (Balance::HashHeader(_) | Balance::HashPrompt(_), Some(key)) => rendezvous(candidates, key),
        // Who says nothing to hash by goes where it is the next one's turn.
        (Balance::RoundRobin | Balance::HashHeader(_) | Balance::HashPrompt(_), _) => turn(candidates, turns),
    };
    chosen.map(|candidate| candidate.at)
}

fn least(candidates: &[Candidate], by: impl Fn(&Candidate) -> f64) -> Option<&Candidate> {
    candidates.iter().min_by(|a, b| by(a).total_cmp(&by(b)))
}

#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn load(candidate: &Candidate) -> f64 {
    (candidate.in_flight as f64 + 1.0) / candidate.weight
}

/// Smooth weighted round robin: everybody earns their weight, the richest goes and pays what all have earned.
fn turn<'a>(candidates: &'a [Candidate], turns: &mut [f64]) -> Option<&'a Candidate> {
    let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    for candidate in candidates {
        turns[candidate.at] += candidate.weight;
    }
    let chosen = candidates.iter().rev().max_by(|a, b| turns[a.at].total_cmp(&turns[b.at]))?;
    turns[chosen.at] -= total;
    Some(chosen)
}

/// The power of two choices (Mitzenmacher, 2001).
fn fastest(candidates: &[Candidate]) -> Option<&Candidate> {
    let one = candidates.get(fastrand::usize(..candidates.len().max(1)))?;
    let two = &candidates[fastrand::usize(..candidates.len())];
    let unknown = mean(candidates.iter().filter_map(|candidate| candidate.first_token));
    // For nothing at all, one that is unknown would win against all others until its first token comes, however small its
    // weight while it starts slowly.
    let cost = |candidate| load(candidate) * (candidate.first_token.unwrap_or(unknown) + 1e-6);
    Some(if cost(two) < cost(one) { two } else { one })
}

/// 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// How much more than the average an upstream may have in flight before its keys go to their next choice.
const OVERLOAD: f64 = 1.5;

/// Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): when an upstream comes or goes, only its keys move. An
/// upstream with much more than its share in flight is passed over, so that one popular key cannot drown it.
fn rendezvous(candidates: &[Candidate], key: u64) -> Option<&Candidate> {
    let score = |candidate: &Candidate| {
        let mixed = mix(candidate.print ^ mix(key));
        #[expect(clippy::cast_precision_loss, reason = "a number between 0 and 1")]
        let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        // The least is the best.
        -unit.max(f64::MIN_POSITIVE).ln() / candidate.weight
    };
    let (count, total) = candidates.iter().fold((0.0, 1.0), |(count, total), candidate| {
        (count + candidate.weight, total + load(candidate) * candidate.weight)
    });
    let bound = (total / count * OVERLOAD).max(3.0);
    let free: Vec<Candidate> =
        candidates.iter().filter(|candidate| load(candidate) <= bound).copied().collect();
    let best = least(&free, score).or_else(|| least(candidates, score))?.at;
    candidates.iter().find(|candidate| candidate.at == best)
}

/// `SplitMix64`'s finalizer.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A fingerprint of some bytes (FNV-1a, mixed): the same in every process, so that gateways agree on where a key goes.
pub(crate) fn print(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[f64]) -> Vec<Candidate> {
        let candidate = |(at, &weight): (usize, &f64)| Candidate {
            at,
            weight,
            in_flight: 0,
            first_token: Some(1.0),
            print: print(format!("upstream-{at}").as_bytes()),
        };
        weights.iter().enumerate().map(candidate).collect()
    }

    fn counts(balance: &Balance, candidates: &[Candidate], keys: u64) -> Vec<u64> {
        let (mut turns, mut counts) = (vec![0.0; 9], vec![0; candidates.len()]);
        for key in 0..keys {
            let key = Some(print(&key.to_le_bytes()));
            counts[choose(balance, candidates, key, &mut turns).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn turns_follow_weights_and_are_spread() {
        let (all, mut turns) = (candidates(&[3.0, 1.0]), [0.0; 2]);
        let order: Vec<_> =
            (0..8).map(|_| choose(&Balance::RoundRobin, &all, None, &mut turns).unwrap()).collect();
        assert_eq!(order, [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn the_least_loaded_for_its_weight_goes() {
        let mut all = candidates(&[1.0, 2.0]);
        (all[0].in_flight, all[1].in_flight) = (3, 5);
        assert_eq!(choose(&Balance::LeastInFlight, &all, None, &mut []), Some(1));
        all[1].in_flight = 8;
        assert_eq!(choose(&Balance::LeastInFlight, &all, None, &mut []), Some(0));
    }

    #[test]
    fn the_slow_one_is_chosen_only_against_itself() {
        let mut all = candidates(&[1.0; 4]);
        all[2].first_token = Some(9.0);
        let counts = counts(&Balance::Fastest, &all, 10_000);
        assert!((400..900).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn one_whose_speed_is_unknown_is_taken_for_an_average_one() {
        let mut all = candidates(&[1.0; 4]);
        (all[0].first_token, all[1].first_token, all[3].first_token) = (None, Some(0.2), Some(1.8));
        let of = |all: &[Candidate]| counts(&Balance::Fastest, all, 16_000);
        // Of 16 pairs: the quickest wins all 7 that it is in, the slowest one only that against itself.
        let even = of(&all);
        assert!((6_500..7_500).contains(&even[1]) && even[0] > 2_000 && even[3] < 1_500, "{even:?}");
        all[0].weight = 0.1;
        let slow_start = of(&all);
        assert!(slow_start[0] < 1_500, "{slow_start:?}");
        for candidate in &mut all {
            candidate.first_token = None;
        }
        let none_known = of(&all);
        assert!(none_known[0] < 1_500 && none_known[1] > 4_000, "{none_known:?}");
    }

    #[test]
    fn keys_stay_when_others_come_and_go() {
        let (balance, all) = (Balance::HashPrompt(64), candidates(&[1.0, 1.0, 1.0, 1.0]));
        let of = |candidates: &[Candidate], key: u64| {
            choose(&balance, candidates, Some(print(&key.to_le_bytes())), &mut [0.0; 4]).unwrap()
        };
        let without: Vec<_> = all.iter().filter(|candidate| candidate.at != 2).copied().collect();
        for key in 0..2000 {
            let before = of(&all, key);
            if before != 2 {
                assert_eq!(of(&without, key), before);
            }
        }
        let counts = counts(&balance, &candidates(&[1.0, 3.0]), 40_000);
        assert!((9_000..11_000).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn an_overloaded_favourite_is_passed_over() {
        let (balance, mut all) = (Balance::HashPrompt(64), candidates(&[1.0, 1.0, 1.0]));
        let favourite = choose(&balance, &all, Some(7), &mut [0.0; 3]).unwrap();
        all[favourite].in_flight = 50;
        assert_ne!(choose(&balance, &all, Some(7), &mut [0.0; 3]), Some(favourite));
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        for balance in
            [Balance::RoundRobin, Balance::LeastInFlight, Balance::Fastest, Balance::HashPrompt(16)]
        {
            assert_eq!(choose(&balance, &[], Some(1), &mut []), None);
        }
    }
}
