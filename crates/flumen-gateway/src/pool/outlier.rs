//! Which upstreams of a pool do much worse than the others.

use super::member::Window;
use crate::config::Health;

/// Those that are to be left out for a while: never more than half of a pool.
pub(super) fn outliers(seen: &[(Window, Option<f64>)], health: &Health) -> Vec<usize> {
    let failing = |window: &Window| {
        window.requests >= health.outlier_requests
            && f64::from(window.failures) >= health.outlier_failures * f64::from(window.requests)
    };
    let mut found: Vec<usize> = (0..seen.len())
        .filter(|&at| {
            let (window, first) = &seen[at];
            let others =
                || seen.iter().enumerate().filter(move |(other, _)| *other != at).map(|(_, seen)| seen);
            let (failed, asked) = others().fold((0.0, 0.0), |(failed, asked), (window, _)| {
                (failed + f64::from(window.failures), asked + f64::from(window.requests))
            });
            let rest_is_well = failed < health.outlier_failures / 2.0 * asked;
            if failing(window) && rest_is_well {
                return true;
            }
            let mut firsts: Vec<f64> = others().filter_map(|(_, first)| *first).collect();
            firsts.sort_by(f64::total_cmp);
            let median = firsts.get(firsts.len() / 2);
            window.requests >= health.outlier_requests
                && first.zip(median).is_some_and(|(own, median)| own > median * health.outlier_slowness)
        })
        .collect();
    found.truncate(seen.len() / 2);
    found
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn found(seen: &[(u32, u32, f64)]) -> Vec<usize> {
        let since = Instant::now();
        let seen: Vec<_> = seen
            .iter()
            .map(|&(requests, failures, first)| (Window { since, requests, failures }, Some(first)))
            .collect();
        outliers(&seen, &Health::default())
    }

    #[tokio::test]
    async fn who_fails_much_more_than_the_rest_is_found() {
        assert_eq!(found(&[(100, 60, 0.1), (100, 1, 0.1), (100, 2, 0.1)]), [0]);
        assert_eq!(
            found(&[(100, 60, 0.1), (100, 70, 0.1), (100, 50, 0.1)]),
            [0; 0],
            "all of them: no outlier"
        );
        assert_eq!(found(&[(9, 9, 0.1), (100, 1, 0.1)]), [0; 0], "too few to judge");
        assert_eq!(found(&[(50, 50, 0.1)]), [0; 0], "the only one");
    }

    #[tokio::test]
    async fn who_is_much_slower_than_the_rest_is_found() {
        assert_eq!(found(&[(50, 0, 0.1), (50, 0, 0.9), (50, 0, 0.12)]), [1]);
        assert_eq!(found(&[(50, 0, 0.1), (50, 0, 0.4)]), [0; 0]);
    }
}
