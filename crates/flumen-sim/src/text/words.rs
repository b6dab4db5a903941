//! The stuff that answers are made of.

/// Parts of sentences in one language.
pub(crate) struct Words {
    pub(crate) space: &'static str,
    pub(crate) stop: &'static str,
    pub(crate) openings: &'static [&'static str],
    pub(crate) subjects: &'static [&'static str],
    pub(crate) verbs: &'static [&'static str],
    pub(crate) objects: &'static [&'static str],
    pub(crate) tails: &'static [&'static str],
}

pub(crate) const ENGLISH: Words = Words {
    space: " ",
    stop: ".",
    openings: &[
        "In short,",
        "As a rule,",
        "Upstream of the delta,",
        "In practice,",
        "Strangely enough,",
        "To begin with,",
    ],
    subjects: &[
        "the river",
        "a slow current",
        "every tributary",
        "the old ferryman",
        "a patient engineer",
        "the morning fog",
        "the water level",
        "a narrow canal",
        "the lock keeper",
        "the floodplain",
        "a quiet reader",
        "the last barge",
    ],
    verbs: &[
        "carries",
        "remembers",
        "softens",
        "measures",
        "reaches",
        "balances",
        "follows",
        "divides",
        "returns to",
        "waits for",
        "outlasts",
        "feeds",
    ],
    objects: &[
        "the stones of its bed",
        "the meadows along the bank",
        "a rhythm of its own",
        "the promise of the sea",
        "whatever the rain brings",
        "the weight of the barges",
        "a map that nobody drew",
        "the noise of the weir",
        "three small towns",
        "the pressure from behind",
        "its widest bend",
    ],
    tails: &[
        "without hurry",
        "as it has for centuries",
        "long before the city wakes",
        "even when the banks are full",
        "and never twice in the same way",
        "until the tide turns",
        "so that nothing overflows",
    ],
};

pub(crate) const GERMAN: Words = Words {
    space: " ",
    stop: ".",
    openings: &["Im Grunde", "Früher oder später", "An ruhigen Tagen", "Genau genommen"],
    subjects: &[
        "fließt der Strom",
        "trägt das Wasser",
        "überquert die Fähre",
        "prüft der Müller",
        "erreicht die Strömung",
    ],
    verbs: &["geduldig", "über Nacht", "unaufhörlich", "gemächlich", "fast lautlos"],
    objects: &[
        "die alten Brücken",
        "den schmalen Kanal",
        "das weite Tal",
        "die Grenze der Stadt",
        "größere Flüsse",
    ],
    tails: &["bis zur Mündung", "ohne je zu zögern", "während die Ufer schlafen", "trotz der Schleusen"],
};

pub(crate) const SPANISH: Words = Words {
    space: " ",
    stop: ".",
    openings: &["En realidad,", "Con el tiempo,", "Según dicen,", "Al anochecer,"],
    subjects: &["el río", "la corriente", "un viejo barquero", "el agua del deshielo", "la niebla"],
    verbs: &["acaricia", "recuerda", "atraviesa", "sueña con", "alcanza"],
    objects: &[
        "las piedras del cauce",
        "el corazón de la ciudad",
        "un mañana más ancho",
        "los puentes de hierro",
    ],
    tails: &["sin prisa", "como cada otoño", "hasta llegar al mar", "aunque nadie lo mire"],
};

pub(crate) const CHINESE: Words = Words {
    space: "",
    stop: "。",
    openings: &["换句话说，", "总的来说，", "每到春天，", "其实，"],
    subjects: &[
        "缓缓流动的河水",
        "山谷里的小溪",
        "远处的渡船",
        "清晨的薄雾",
        "一位耐心的工程师",
        "古老的运河",
    ],
    verbs: &["带走了", "记得", "穿过", "滋养着", "等待着", "慢慢绕过"],
    objects: &["两岸的稻田", "沉默的石头", "整座城市的灯光", "下游的村庄", "大海的方向", "没有名字的桥"],
    tails: &["，从不停歇", "，就像一千年前一样", "，直到潮水转向", "，却不曾溢出堤岸"],
};

pub(crate) const JAPANESE: Words = Words {
    space: "",
    stop: "。",
    openings: &["つまり、", "朝になると、", "やがて、"],
    subjects: &["川の流れは", "小さな舟は", "山の雪解け水は", "古い橋は", "静かな霧は"],
    verbs: &["ゆっくりと", "いつまでも", "音もなく", "少しずつ"],
    objects: &["海を目指します", "町を映します", "石を丸くします", "春を運びます"],
    tails: &["、誰も急がずに", "、昔と同じように", "、夜が明けるまで"],
};

pub(crate) const EMOJI: &[&str] = &["🌊", "🚤", "🐟", "🌉", "🛶", "👩‍🔬", "🇳🇱", "✨", "🏞️", "👍🏽", "🧭"];

pub(crate) const HEADINGS: &[&str] = &[
    "Source",
    "Current",
    "Delta",
    "Locks and weirs",
    "What the gauge says",
    "Tributaries",
    "High water",
    "Summary",
];

/// (language of the fence, lines)
pub(crate) const CODE: &[(&str, &str)] = &[
    (
        "rust",
        "let mut level = gauge.read().await?;\nwhile level > HIGH {\n    sluice.open(level - LOW).await?;\n    level = gauge.read().await?;\n}",
    ),
    (
        "python",
        "async for token in stream:\n    print(token, end=\"\", flush=True)\n    total += len(token)\nassert total > 0, \"dry river\"",
    ),
    ("javascript", "for await (const chunk of river) {\n  view.textContent += chunk ?? \"\";\n}"),
    (
        "json",
        "{\"river\": \"Flumen\", \"length_km\": 1231.5, \"tidal\": true, \"locks\": [\"a\\\\b\", \"c\"]}",
    ),
    ("bash", "curl -N \"$URL\" | while read -r line; do\n  echo \"${line#data: }\"\ndone"),
];
