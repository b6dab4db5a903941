//! `flumen chat` without a terminal: what goes in, what comes out, and how it ends.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, process::Command};

use crate::support::{Client, Cutter, Gateway, Upstream, command, event, post, soon};

async fn chat(url: &str, more: &[&str]) -> Output {
    soon(command(&[&["chat", url], more].concat()).output()).await.unwrap()
}

fn url(address: std::net::SocketAddr) -> String {
    format!("http://{address}")
}

#[tokio::test]
async fn a_prompt_from_a_pipe_gives_the_answer_and_nothing_else() {
    let gateway = Gateway::start("").await;
    let arguments =
        ["chat", &url(gateway.address), "--model", "sim:echo=1,split=1", "--prompt", "Read this:"];
    let mut child = command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, "万物皆流 🌊\n".as_bytes()).await.unwrap();
    drop(stdin);
    let output = soon(child.wait_with_output()).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Read this:\n\n万物皆流 🌊\n");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[tokio::test]
async fn json_and_raw_show_the_events() {
    let gateway = Gateway::start("").await;
    let model = ["--model", "sim:ttft=1ms,tokens=4", "-p", "hi"];
    let output = chat(&url(gateway.address), &[&model[..], &["--json"]].concat()).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 4);
    let output = chat(&url(gateway.address), &[&model[..], &["--raw"]].concat()).await;
    let raw = String::from_utf8(output.stdout).unwrap();
    assert!(raw.starts_with("data: {") && raw.ends_with("data: [DONE]\n\n"), "{raw}");
}

#[tokio::test]
async fn settings_and_the_key_reach_the_server() {
    let upstream = Upstream::start(|mut conn| async move {
        let (key, body) = (conn.header("authorization").map(str::to_owned), conn.json());
        conn.stream_head().await;
        let said = format!("{key:?} {}", body["messages"]);
        let chunk = json!({"choices": [{"delta": {"content": said}}]});
        conn.chunk(format!("data: {chunk}\n\ndata: [DONE]\n\n").as_bytes()).await;
        conn.finish().await;
    })
    .await;
    let address = url(upstream.address);
    let arguments =
        ["chat", &address, "-m", "m", "-p", "hi", "--system", "be brief", "--key-env", "CHAT_KEY"];
    let output = soon(command(&arguments).env("CHAT_KEY", "sk-1").output()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said.trim(),
        r#"Some("Bearer sk-1") [{"content":"be brief","role":"system"},{"content":"hi","role":"user"}]"#
    );
    let output = soon(command(&arguments).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("CHAT_KEY is not set"));
}

#[tokio::test]
async fn every_bad_end_is_one_line_and_a_failure() {
    let gateway = Gateway::start("").await;
    let page = Upstream::page().await;
    let unended = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("half").as_bytes()).await;
        conn.finish().await;
    })
    .await;
    let garbage = Upstream::garbage().await;
    let silent = Upstream::silent().await;
    for (url, model, said, printed) in [
        ("http://127.0.0.1:1".to_owned(), "m", "no connection", ""),
        (url(page.address), "m", "no event stream", ""),
        (url(unended.address), "m", "[DONE]", "half\n"),
        (url(garbage.address), "m", "not what the OpenAI API sends", ""),
        (url(silent.address), "m", "no response header", ""),
        (url(gateway.address), "none", "404 Not Found: the model `none`", ""),
        (url(gateway.address), "sim:fault=status:429", "429 Too Many Requests: this 429", ""),
        (url(gateway.address), "sim:ttft=1ms,echo=1,fault=error@1", "sim_fault", "hi\n"),
    ] {
        let output = chat(&url, &["-m", model, "-p", "hi", "--timeout", "500ms"]).await;
        let line = String::from_utf8_lossy(&output.stderr);
        assert!(line.contains(said) && line.trim().lines().count() == 1, "{url} {model}: {line}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), printed, "{url} {model}");
        assert_eq!(output.status.code(), Some(1), "{url} {model}");
    }
}

#[tokio::test]
async fn an_interrupt_cancels_the_generation_upstream() {
    let (_sim, address) = crate::simulator::start(&[]).await;
    let address_url = url(address);
    let mut child = command(&["chat", &address_url, "-m", "sim:ttft=1ms,tps=200,tokens=endless", "-p", "hi"])
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    soon(child.stdout.as_mut().unwrap().read_exact(&mut first)).await.unwrap();
    let pid = child.id().unwrap().to_string();
    Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    let status = soon(child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(130));
    soon(async {
        while Client::get(address, "/sim/stats").await.json()["aborted"] != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_who_stops_reading_is_an_error() {
    let gateway = Gateway::start("").await;
    let mut child =
        command(&["chat", &url(gateway.address), "-m", "sim:ttft=1ms,tps=0,tokens=endless", "-p", "hi"])
            .spawn()
            .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 1];
    soon(out.read_exact(&mut first)).await.unwrap();
    drop(out);
    let output = soon(child.wait_with_output()).await.unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    assert_eq!(post(gateway.address, "/v1/none", &json!({})).await.status, 404, "the gateway is well");
}

#[tokio::test]
async fn a_resumable_answer_survives_a_line_that_breaks_all_the_time() {
    let gateway = Gateway::start("").await;
    let line = Cutter::before(gateway.address, 3000).await;
    let arguments = ["-m", "sim:ttft=1ms,tps=1000,tokens=60,seed=5,lang=mix", "-p", "hi"];
    let whole = chat(&url(gateway.address), &arguments).await;
    let output = chat(&url(line.address), &[&arguments[..], &["--resume"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), String::from_utf8(whole.stdout).unwrap());
    assert!(line.cuts() >= 3, "{} cuts", line.cuts());
    let without = chat(&url(line.address), &arguments).await;
    assert_eq!(without.status.code(), Some(1));
}

#[tokio::test]
async fn an_interrupt_stops_a_resumable_generation() {
    let gateway = Gateway::start("").await;
    let address = url(gateway.address);
    let arguments = ["chat", &address, "-m", "sim:ttft=1ms,tps=200,tokens=endless", "-p", "hi", "--resume"];
    let mut child = command(&arguments).spawn().unwrap();
    let mut first = [0; 1];
    soon(child.stdout.as_mut().unwrap().read_exact(&mut first)).await.unwrap();
    Command::new("kill").args(["-INT", &child.id().unwrap().to_string()]).status().await.unwrap();
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(130));
    let list = Client::get(gateway.address, "/v1/streams").await.json();
    assert_eq!(
        (&list["data"][0]["state"], &list["data"][0]["cause"]),
        (&json!("cancelled"), &json!("stopped"))
    );
}
