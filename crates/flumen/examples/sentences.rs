//! Stages that overlap: a stream of tokens, a splitter into sentences, and a printer that takes them while the tokens still
//! come: `cargo run -p flumen --example sentences`.

use std::time::Duration;

use flumen::{
    Event,
    flow::{Context, Frames, Result, Task, task},
    futures_util::StreamExt,
};

const TEXT: &str = "You cannot step twice into the same river. Other waters are ever flowing on to you. 万物皆流。 All is well.";

#[tokio::main]
async fn main() -> Result<()> {
    let tokens = task(|cx: Context, text: &'static str| async move {
        for token in text.split_inclusive(' ') {
            tokio::time::sleep(Duration::from_millis(5)).await;
            cx.out().send(Event::data(token)).await?;
        }
        Ok(())
    });
    let splitter = task(|cx: Context, mut tokens: Frames<Event>| async move {
        let mut sentence = String::new();
        while let Some(token) = tokens.next().await {
            sentence.push_str(&String::from_utf8_lossy(&token?.payload()));
            if sentence.trim_end().ends_with(['.', '。']) {
                cx.out().send(Event::data(std::mem::take(&mut sentence).trim())).await?;
            }
        }
        Ok(())
    });
    let mut sentences = tokens.pipe(splitter).stream::<Event>(&Context::new(), TEXT);
    while let Some(sentence) = sentences.next().await {
        println!("{}", String::from_utf8_lossy(&sentence?.payload()));
    }
    Ok(())
}
