//! Types a sentence: `curl -N http://127.0.0.1:3000`.

use flumen::{Pace, Router, Sse, StreamTools, get, iter, serve};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let typewriter = || async {
        Sse::new(iter("Panta rhei: everything flows. 万物皆流 🌊".chars()).paced(Pace::per_second(20.0)))
    };
    serve("127.0.0.1:3000", Router::new().route("/", get(typewriter))).await
}
