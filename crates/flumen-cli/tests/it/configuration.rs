//! The configuration is checked before anything starts, and can change while everything runs.

use crate::support::{Client, Gateway, Upstream, chat, command, event, post, soon};

#[tokio::test]
async fn a_faulty_file_is_refused_with_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flumen.toml");
    std::fs::write(&file, "[server]\nlisten = \"nowhere\"\n[timeout]\nidle = \"5s\"\n").unwrap();
    for subcommand in ["check", "serve"] {
        let output = soon(command(&[subcommand, "-c", file.to_str().unwrap()]).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(78));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("flumen.toml:2: server.listen"), "{said}");
        assert!(said.contains("flumen.toml:3: timeout: unknown key (did you mean `timeouts`?)"), "{said}");
    }
    let missing = soon(command(&["check", "-c", "no-such-file.toml"]).output()).await.unwrap();
    assert_eq!(missing.status.code(), Some(78));
}

#[tokio::test]
async fn the_example_is_good_and_the_default_needs_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let example = soon(command(&["check", "--example"]).output()).await.unwrap();
    std::fs::write(folder.path().join("flumen.toml"), &example.stdout).unwrap();
    let output = soon(command(&["check"]).current_dir(folder.path()).output()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.starts_with("flumen.toml: good"), "{said}");
}

#[tokio::test]
async fn an_address_in_use_is_said_so() {
    let gateway = Gateway::start("").await;
    let address = gateway.address.to_string();
    let output = soon(command(&["serve", "--listen", &address]).output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("another server"), "{said}");
}

#[tokio::test]
async fn a_changed_file_is_taken_over_while_streams_go_on() {
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let upstream = Upstream::start(move |mut conn| {
        let gone = gone.lock().unwrap().take();
        async move {
            conn.stream_head().await;
            conn.chunk(event("a").as_bytes()).await;
            let _ = gone.unwrap().await;
            conn.chunk(b"data: [DONE]\n\n").await;
            conn.finish().await;
        }
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let (mut client, _) = Client::open(gateway.address, &chat("m")).await;
    client.until("\"a\"").await;

    std::fs::write(gateway.file(), "[upstreams.s]\nkind = \"sim\"\n[models.\"new\"]\nupstream = \"s\"\n")
        .unwrap();
    gateway.message("the new configuration is in force").await;
    let models = Client::get(gateway.address, "/v1/models").await.text();
    assert!(models.contains("\"new\"") && !models.contains("renamed"), "{models}");
    assert_eq!(post(gateway.address, "/v1/chat/completions", &chat("m")).await.status, 404);

    go.send(()).unwrap();
    client.until("[DONE]").await;
}

#[tokio::test]
async fn a_bad_new_file_is_refused_and_the_old_one_stays() {
    let mut gateway = Gateway::start("").await;
    std::fs::write(gateway.file(), "[models.x]\nupstream = \"sin\"\n").unwrap();
    gateway.signal("HUP").await;
    gateway.message("refused, the old one stays in force").await;
    let fault = gateway.message("models.x.upstream").await;
    assert!(fault.contains("flumen.toml:2") && fault.contains("did you mean `sim`?"), "{fault}");
    assert!(Client::get(gateway.address, "/v1/models").await.text().contains("\"sim\""));
    std::fs::write(gateway.file(), "[server]\nmax_connections = 5\n[models.y]\nupstream = \"sim\"\n")
        .unwrap();
    gateway.signal("HUP").await;
    gateway.message("needs a restart: server limits").await;
    assert!(Client::get(gateway.address, "/v1/models").await.text().contains("\"y\""));
}

#[tokio::test]
async fn the_environment_overrides_the_file() {
    let output = soon(command(&["check"]).env("FLUMEN_STREAM__HIGH", "7").output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("FLUMEN_STREAM__HIGH: stream.high: 7 is not between"), "{said}");
}

#[tokio::test]
async fn help_version_and_completions_are_there() {
    for (arguments, part) in [
        (&["--help"][..], "Runs the gateway"),
        (&["serve", "--help"], "Examples:"),
        (&["check", "--help"], "Examples:"),
        (&["sim", "--help"], "Examples:"),
        (&["version"], "flumen 0."),
        (&["completions", "bash"], "_flumen"),
        (&["completions", "zsh"], "#compdef flumen"),
    ] {
        let output = soon(command(arguments).output()).await.unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(part), "{arguments:?}");
    }
}
