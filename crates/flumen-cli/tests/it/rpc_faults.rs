//! A thousand calls of a service that goes wrong in every way: every client gets a whole answer or a word, and nothing hangs.

use std::{sync::Arc, time::Duration};

use flumen_rpc::service::Stats;
use futures_util::{StreamExt, stream};
use tokio::sync::{Mutex, watch};

use crate::support::{Client, Gateway, Service, chat, soon};

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    Told,
    Left,
}

/// Asks, and reads to the end or leaves on the way.
async fn ask(address: std::net::SocketAddr, number: u64) -> Fate {
    let random = |most: u64| fastrand::u64(..most);
    let (model, leaves) = match number % 8 {
        0 | 1 => (format!("count:{}", random(200) + 1), false),
        2 => ("breaks".to_owned(), false),
        3 => ("forgets".to_owned(), false),
        4 => ("busy".to_owned(), false),
        5 => ("silent".to_owned(), true),
        _ => (format!("endless:{}", [8, 64, 207, 400][usize::try_from(random(4)).unwrap()]), true),
    };
    let mut client = Client::connect(address).await;
    client.post("/v1/chat/completions", &chat(&model).to_string()).await;
    if leaves {
        // At any moment: before the first token, or while it streams.
        if number % 8 > 5 {
            // An event, or the word that the service is not there.
            client.until("{\"").await;
        }
        tokio::time::sleep(Duration::from_millis(random(30))).await;
        return Fate::Left;
    }
    let answer = client.answer().await;
    let text = answer.text();
    match (text.contains("[DONE]"), text.contains("\"error\"")) {
        (true, false) if model.starts_with("count:") => Fate::Whole,
        (false, true) => Fate::Told,
        other => panic!("{model}: neither whole nor told: {other:?} {text}"),
    }
}

async fn a_thousand(kind: &str) {
    let service = Service::start();
    let address = service.address;
    let config = service.config(kind, "");
    let gateway = Gateway::start(&config).await;
    let service = Arc::new(Mutex::new(Some(service)));
    let (began, mut begun) = watch::channel(0);
    let killer = {
        let service = Arc::clone(&service);
        async move {
            for most in [250, 500, 750] {
                begun.wait_for(|begun| *begun >= most).await.unwrap();
                let mut service = service.lock().await;
                if let Some(dies) = service.take() {
                    let stats = Arc::clone(&dies.stats);
                    dies.shutdown.abort();
                    drop(dies);
                    nothing_runs(&stats).await;
                }
                *service = Some(again(address).await);
            }
        }
    };
    let asking = stream::iter(0..1000)
        .map(|number| {
            began.send_modify(|begun| *begun += 1);
            soon(ask(gateway.address, number))
        })
        .buffer_unordered(50)
        .collect::<Vec<_>>();
    let (fates, ()) = tokio::join!(asking, killer);
    let count = |fate| fates.iter().filter(|own| **own == fate).count();
    println!(
        "{kind}: {} whole, {} told, {} left; none hangs",
        count(Fate::Whole),
        count(Fate::Told),
        count(Fate::Left)
    );
    assert!(count(Fate::Whole) > 0 && count(Fate::Told) >= 375 && count(Fate::Left) == 375, "{kind}");
    // Nothing runs on at the service for those who left.
    let service = service.lock().await;
    nothing_runs(&service.as_ref().unwrap().stats).await;
}

/// Waits until a service generates nothing any more.
async fn nothing_runs(stats: &Stats) {
    soon(async {
        while stats.running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A service at the address of one that has just died.
async fn again(address: std::net::SocketAddr) -> Service {
    soon(async {
        loop {
            if let Ok(service) = Service::try_at(address) {
                return service;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_faults_over_grpc_and_nobody_is_left_without_a_word() {
    a_thousand("grpc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_faults_over_ttheader_and_nobody_is_left_without_a_word() {
    a_thousand("ttheader").await;
}
