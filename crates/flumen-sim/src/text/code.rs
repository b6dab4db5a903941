//! Blocks of code. The patterns are whole blocks rather than sentences.

use super::Lexicon;

pub(super) const LEXICON: Lexicon = Lexicon {
    gap: "\n",
    sentences: &[
        "```rust
/// ~m
pub fn ~f(~n: &[u64]) -> Option<u64> {
    let mut ~o = ~d;
    for item in ~n.iter().filter(|item| **item > ~d) {
        ~o = ~o.max(*item);
    }
    (~o < ~d).then_some(~o)
}

#[test]
fn ~f_works() {
    assert_eq!(~f(&[~d, ~d]), None);
}
```",
        "```python
def ~f(~n: list[dict]) -> int:
    \"\"\"~m\"\"\"
    ~o = 0
    for item in ~n:
        if item.get(\"~n\", ~d) >= ~d:
            ~o += item[\"~o\"]
            print(f\"{item['name']!r}: {~o:>6}\")
    return ~o


if __name__ == \"__main__\":
    ~f([{\"name\": \"~n\", \"~o\": ~d}])
```",
        "```typescript
// ~m
export async function ~f(~n: string, signal?: AbortSignal): Promise<number> {
  const response = await fetch(`/api/~n/${~n}?limit=~d`, { signal });
  if (!response.ok) {
    throw new Error(`HTTP ${response.status} after ~d ms`);
  }
  const { ~o } = (await response.json()) as { ~o: number };
  return ~o ?? ~d;
}
```",
        "```sql
-- ~m
SELECT ~n.name, COUNT(*) AS ~o
FROM ~n
LEFT JOIN harbour ON harbour.id = ~n.harbour_id
WHERE ~n.depth > ~d AND ~n.name <> 'unknown'
GROUP BY ~n.name
ORDER BY ~o DESC
LIMIT ~d;
```",
        "```bash
#!/usr/bin/env bash
set -euo pipefail

# ~m
for ~n in *.log; do
    lines=$(grep -c \"~o\" \"$~n\" || true)
    [ \"$lines\" -gt ~d ] && printf '%s\\t%d\\n' \"$~n\" \"$lines\"
done | sort -k2 -nr | head -n ~d
```",
        "```json
{
  \"~n\": { \"name\": \"~o\", \"depth\": ~d, \"open\": true },
  \"~o\": [~d, ~d, ~d],
  \"note\": \"~m\"
}
```",
    ],
    lists: &[
        (
            'f',
            &[
                "measure_flow",
                "count_boats",
                "find_current",
                "merge_streams",
                "read_tide",
                "next_departure",
                "drain",
            ],
        ),
        ('n', &["rivers", "boats", "stations", "gauges", "arrivals", "letters", "lamps"]),
        ('o', &["total", "deepest", "level", "score", "count", "flow"]),
        (
            'm',
            &[
                "Finds the strongest current.",
                "Counts what passed the bridge since midnight.",
                "Keeps only what is worth keeping.",
                "Slow, but correct: measure first, then optimise.",
            ],
        ),
    ],
};
