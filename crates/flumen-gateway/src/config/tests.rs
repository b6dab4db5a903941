use std::path::Path;

use super::*;

const SOURCE: &str = "dir/flumen.toml";

fn parse_with(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, Path::new(SOURCE), env)
        .map(|loaded| loaded.config)
        .map_err(|error| error.faults.iter().map(ToString::to_string).collect())
}

fn faults(text: &str) -> Vec<String> {
    parse_with(text, &[]).unwrap_err()
}

const MINIMAL: &str = "[upstreams.a]\nbase_url = \"http://h/v1\"\n[models.\"*\"]\nupstream = \"a\"\n";

#[test]
fn nothing_means_the_embedded_default() {
    assert_eq!(parse_with("", &[]).unwrap(), Config::embedded());
}

#[test]
fn the_example_states_the_defaults() {
    assert_eq!(parse_with(EXAMPLE, &[]).unwrap(), Config::embedded());
}

/// The example with its commented-out keys put in force.
fn example_in_full() -> String {
    let key = |line: &str| {
        let bare = line.strip_prefix("# ")?;
        let is_key = bare.starts_with('[')
            || bare.split_once(" = ").is_some_and(|(key, _)| {
                !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            });
        is_key.then(|| bare.to_owned())
    };
    EXAMPLE.lines().map(|line| key(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn the_example_knows_every_key_and_no_other() {
    let text = example_in_full();
    // Files do not exist (certificates among them), both kinds of keys and secrets are shown, and streams are kept in memory: these are the faults, and there
    // are no others.
    let secret = "0123456789abcdef0123456789abcdef";
    let faults =
        parse_with(&text, &[("LOCAL_API_KEY", "k"), ("TOKEN_SECRET", secret), ("ADMIN_TOKEN", secret)])
            .unwrap_err();
    assert_eq!(faults.len(), 9, "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.contains("admin.token_file: give either")));
    for key in ["auth.keys_file: ", "tokens.secret_file: give either", "corporate.jwks_url: give either"] {
        assert!(faults.iter().any(|fault| fault.contains(key)), "{key}");
    }
    for key in ["resume.folder", "resume.flush"] {
        assert!(faults.iter().any(|fault| fault.contains(key)), "{key}");
    }
    assert!(faults.iter().any(|fault| fault.contains("key_file: give either")));
    for file in ["ca_file", "service.cert_file"] {
        assert!(faults.iter().any(|fault| fault.contains(file)), "{file}");
    }
    let source = concat!(
        include_str!("check.rs"),
        include_str!("check/admin.rs"),
        include_str!("check/auth.rs"),
        include_str!("check/limits.rs"),
        include_str!("check/pools.rs"),
        include_str!("check/rpc.rs"),
        include_str!("check/streams.rs")
    );
    let getters = [
        "section(",
        "map(",
        "string(",
        "strings(",
        "secret_string(",
        "moment(",
        "most(",
        "pairs(",
        "choice(",
        "duration(",
        "size(",
        "boolean(",
        "integer(",
        "number(",
        "numbers(",
        "table(",
    ];
    for getter in getters {
        for call in source.split(getter).skip(1) {
            let Some(key) = call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            assert!(
                text.contains(&format!("{key} = "))
                    || text.contains(&format!("{key}."))
                    || text.contains(&format!(".{key}]"))
                    || text.contains(&format!("[{key}]")),
                "`{key}` is not in the example"
            );
        }
    }
}

#[test]
fn all_faults_are_told_at_once_with_line_and_hint() {
    let text = "[server]\nlisten = \"localhost\"\nthread = 4\n\n[timeouts]\nidle = \"soon\"\nconnect = \"0s\"\n[strem]\nx = 1\n[stream]\nhigh = 0.4\nbuffer = 12\n[log]\nlevel = \"inf\"\n";
    assert_eq!(
        faults(text),
        [
            "dir/flumen.toml:2: server.listen: `localhost` is not an address with a port (for example 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080)",
            "dir/flumen.toml:3: server.thread: unknown key (did you mean `threads`?)",
            "dir/flumen.toml:6: timeouts.idle: \"soon\" is not a duration such as \"5s\", \"250ms\" or \"1m 30s\"",
            "dir/flumen.toml:7: timeouts.connect: a duration must be more than 0 and at most 24h",
            "dir/flumen.toml:8: strem: unknown key (did you mean `stream`?)",
            "dir/flumen.toml:12: stream.buffer: 12 is not between 4KiB and 64MiB",
            "dir/flumen.toml:14: log.level: `inf` is not one of error, warn, info, debug, trace (did you mean `info`?)",
        ]
    );
}

#[test]
fn unknown_keys_deep_inside_are_found() {
    let text = format!(
        "{MINIMAL}\n[upstreams.b]\nbase_url = \"http://h\"\nbase_ur = \"x\"\n[models.m]\nupstream = \"bb\"\nzzz = 1\n"
    );
    assert_eq!(
        faults(&text),
        [
            "dir/flumen.toml:8: upstreams.b.base_ur: unknown key (did you mean `base_url`?)",
            "dir/flumen.toml:10: models.m.upstream: there is no upstream `bb` (known: a, b)",
            "dir/flumen.toml:11: models.m.zzz: unknown key (known keys: upstream, pool, name, resume, limits, aliases)",
        ]
    );
}

#[test]
fn syntax_errors_have_their_line() {
    let fault = &faults("[server]\n\nlisten = \n")[0];
    assert!(fault.starts_with("dir/flumen.toml:3: "), "{fault}");
    assert!(faults("[server]\nthreads=1\nthreads=2\n")[0].starts_with("dir/flumen.toml:3: "));
}

#[test]
fn upstreams_need_models_and_an_url() {
    assert!(
        faults("[upstreams.a]\nbase_url = \"http://h\"\n")[0]
            .contains("[models.\"*\"] with upstream = \"a\"")
    );
    assert!(faults("[upstreams.a]\n[models.m]\nupstream = \"a\"")[0].contains("needs the URL"));
    assert!(faults(&MINIMAL.replace("http://", "ftp://"))[0].contains("http:// or https://"));
    assert!(faults("[server.tls]\ncert = \"x\"")[0].contains("both"));
}

#[test]
fn the_environment_overrides_the_file_and_is_named_when_wrong() {
    let config = parse_with(
        "[server]\nlisten = \"127.0.0.1:1\"",
        &[
            ("FLUMEN_SERVER__LISTEN", "127.0.0.1:9000"),
            ("FLUMEN_STREAM__HIGH", "0.9"),
            ("FLUMEN_TIMEOUTS__IDLE", "7s"),
            ("FLUMEN_CONFIG", "ignored"),
            ("FLUMEN_LOG", "ignored"),
            ("OTHER", "ignored"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:9000".parse().unwrap()]);
    assert_eq!((config.stream.high, config.timeouts.idle), (0.9, Duration::from_secs(7)));
    let list = parse_with("", &[("FLUMEN_SERVER__LISTEN", r#"["127.0.0.1:1", "[::1]:2"]"#)]).unwrap();
    assert_eq!(list.server.listen.len(), 2);
    assert_eq!(
        parse_with("", &[("FLUMEN_SERVER__LISTN", "x"), ("FLUMEN_STREAM__HIGH", "2")]).unwrap_err(),
        [
            "FLUMEN_SERVER__LISTN: server.listn: unknown key (did you mean `listen`?)",
            "FLUMEN_STREAM__HIGH: stream.high: 2 is not between 0.01 and 1",
        ]
    );
}

#[test]
fn keys_come_from_the_environment_or_a_file_and_are_never_shown() {
    let text = MINIMAL.replace("[models", "key_env = \"KEY\"\nheaders = { x-token = \"hidden\" }\n[models");
    let config = parse_with(&text, &[("KEY", " sk-secret\n")]).unwrap();
    let UpstreamKind::OpenAi(server) = &config.upstreams["a"].kind else { panic!() };
    assert_eq!(server.key.as_ref().unwrap().expose(), "sk-secret");
    let shown = format!("{config:?}");
    assert!(!shown.contains("sk-secret") && !shown.contains("hidden"), "{shown}");
    assert!(faults(&text)[0].contains("`KEY` is not set"));
    assert!(parse_with(&text, &[("KEY", "a\nb")]).unwrap_err()[0].contains("header"));
    assert!(parse_with(&text, &[("KEY", " ")]).unwrap_err()[0].contains("empty"));
    let own_header = parse_with(&text.replace("x-token", "Host"), &[("KEY", "k")]);
    assert!(own_header.unwrap_err()[0].contains("gateway itself"));

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key.txt"), "from-file\n").unwrap();
    let text = text.replace("key_env = \"KEY\"", "key_file = \"key.txt\"");
    let loaded = Config::parse(&text, &folder.path().join("flumen.toml"), std::iter::empty()).unwrap();
    let UpstreamKind::OpenAi(server) = &loaded.config.upstreams["a"].kind else { panic!() };
    assert_eq!(server.key.as_ref().unwrap().expose(), "from-file");
    assert_eq!(loaded.files, [folder.path().join("key.txt")]);
}

#[test]
fn the_exact_name_wins_then_the_longest_pattern() {
    let mut config = parse_with(MINIMAL, &[]).unwrap();
    for name in ["gpt-*", "gpt-4*", "gpt-4o"] {
        config.models.insert(
            name.to_owned(),
            Model { pool: "a".to_owned(), name: None, resume: None, limits: Limits::default() },
        );
    }
    let key = |model: &str| config.route(model).map(|(key, _)| key.to_owned());
    assert_eq!(key("gpt-4o").as_deref(), Some("gpt-4o"));
    assert_eq!(key("gpt-4o-mini").as_deref(), Some("gpt-4*"));
    assert_eq!(key("gpt-5").as_deref(), Some("gpt-*"));
    assert_eq!(key("other").as_deref(), Some("*"));
    assert_eq!(Config::embedded().route("other"), None);
    assert_eq!(Config::embedded().route("sim:tps=1").unwrap().0, "sim:*");
}

#[test]
fn hostile_files_are_refused_without_harm() {
    for text in [
        "x = ".to_owned() + &"[".repeat(100_000),
        "[".repeat(100_000),
        "a.".repeat(50_000) + "b = 1",
        "x".repeat(2 << 20),
        "[stream]\nhigh = nan\n".to_owned(),
        "[stream]\nhigh = inf\n".to_owned(),
        "[stream]\nbuffer = -1\n".to_owned(),
        "[server]\nthreads = 99999999999999999999\n".to_owned(),
        "[timeouts]\nidle = \"999999999999y\"\n".to_owned(),
        "server = 1\n".to_owned(),
        "models = []\n".to_owned(),
        "[models]\nx = 1\n".to_owned(),
        "[models.\"\"]\nupstream = \"sim\"\n".to_owned(),
    ] {
        assert!(!faults(&text).is_empty());
    }
}

#[test]
fn streams_on_disk_need_a_folder_and_origins_are_written_as_browsers_do() {
    assert_eq!(
        faults("[resume]\nstore = \"disk\"\n"),
        [
            "dir/flumen.toml:1: resume.folder: streams on disk need a folder (for example folder = \"/var/lib/flumen/streams\")"
        ]
    );
    let config = parse_with("[resume]\nstore = \"disk\"\nfolder = \"s\"\nflush = true\n", &[]).unwrap();
    assert_eq!(config.resume.store, StoreKind::Disk { folder: "dir/s".into(), flush: true });
    for wrong in ["chat.example.com", "https://Chat.example.com", "https://x/", "https://", "null"] {
        assert!(
            faults(&format!("[cors]\norigins = [\"{wrong}\"]\n"))[0].contains("is not an origin"),
            "{wrong}"
        );
    }
    assert!(faults("[cors]\norigins = \"*\"\ncredentials = true\n")[0].contains("any origin"));
    assert!(faults("[stream]\ncompression = [\"gzp\"]\n")[0].contains("did you mean `gzip`?"));
}

mod access;
