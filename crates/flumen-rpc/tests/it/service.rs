//! A model service, as its author and its caller see it.

use std::{sync::Arc, time::Duration};

use flumen_rpc::{
    Cancel, Client, Code, Encoding, Exchange, Status,
    generation::{self, Ask, ClientMessage, Pause, Resume, Say, ServerMessage, Start, Stop, Usage},
    service::{Generate, Request, Server, Stats, Writer},
};
use flumen_wire::listen::{Listener, Shutdown};
use tokio::{sync::mpsc, time::timeout};

use crate::support::{Carrier, within};

/// Counts from 0: `count:N`, or without end. Tells when and why it was dropped.
struct Counter {
    dropped: mpsc::Sender<Option<Cancel>>,
}

struct Guard(mpsc::Sender<Option<Cancel>>, flumen_rpc::Cancellation);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.try_send(self.1.reason().cloned());
    }
}

impl Generate for Counter {
    async fn generate(&self, request: Request, mut writer: Writer) -> Result<(), Status> {
        let _guard = Guard(self.dropped.clone(), request.cancellation().clone());
        let most = match request.model() {
            "refused" => return Err(Status::new(Code::ResourceExhausted, "too much to do")),
            "panics" => panic!("as asked"),
            model => model.strip_prefix("count:").and_then(|count| count.parse().ok()).unwrap_or(u64::MAX),
        };
        for number in 0..most {
            writer.text(number.to_string()).await?;
        }
        writer.usage(Usage { prompt_tokens: 1, completion_tokens: most }).await?;
        writer.finish("stop").await
    }
}

struct Served {
    address: std::net::SocketAddr,
    stats: Arc<Stats>,
    dropped: mpsc::Receiver<Option<Cancel>>,
    shutdown: Shutdown,
}

impl Served {
    fn start() -> Self {
        let (tell, dropped) = mpsc::channel(100);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let server = Server::new(Counter { dropped: tell });
        let stats = server.stats();
        tokio::spawn(server.serve_on(listener, shutdown.clone()));
        Self { address, stats, dropped, shutdown }
    }

    async fn ask(&self, carrier: Carrier, model: &str) -> Conversation {
        let client = carrier.client(self.address);
        let encoding = client.encoding();
        let exchange = within(client.stream(&generation::call(encoding))).await.unwrap();
        let mut conversation = Conversation { exchange, encoding, _client: client };
        conversation.say(Ask::Start(Start { model: model.into(), stream: true, ..Start::default() })).await;
        conversation
    }
}

struct Conversation {
    exchange: Exchange,
    encoding: Encoding,
    _client: Client,
}

impl Conversation {
    async fn say(&mut self, ask: Ask) {
        within(self.exchange.outbound.send(ClientMessage::from(ask).encode(self.encoding))).await.unwrap();
    }

    async fn hear(&mut self) -> Option<Result<Say, Status>> {
        let message = within(self.exchange.inbound.next()).await?;
        Some(message.map(|message| ServerMessage::decode(message, self.encoding).unwrap().message.unwrap()))
    }

    async fn number(&mut self) -> u64 {
        match self.hear().await {
            Some(Ok(Say::Delta(delta))) => delta.text.parse().unwrap(),
            other => panic!("no number: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_generation_is_told_to_its_end() {
    for carrier in Carrier::ALL {
        let served = Served::start();
        let mut conversation = served.ask(carrier, "count:3").await;
        for number in 0..3 {
            assert_eq!(conversation.number().await, number);
        }
        assert!(matches!(conversation.hear().await, Some(Ok(Say::Usage(_)))));
        let Some(Ok(Say::Finish(finish))) = conversation.hear().await else { panic!("no finish") };
        assert!(finish.times.unwrap().first_token > 0);
        assert!(conversation.hear().await.is_none());
        served.shutdown.abort();
    }
}

#[tokio::test]
async fn a_pause_stops_the_generation_and_a_resume_goes_on_where_it_was() {
    for carrier in Carrier::ALL {
        let served = Served::start();
        let mut conversation = served.ask(carrier, "endless").await;
        assert_eq!(conversation.number().await, 0);
        conversation.say(Ask::Pause(Pause {})).await;
        // What was on its way before the pause still comes. Then there is silence, and the service says that it waits.
        let mut next = 1;
        while let Ok(Some(Ok(message))) =
            timeout(Duration::from_millis(200), conversation.exchange.inbound.next()).await
        {
            let Some(Say::Delta(delta)) =
                ServerMessage::decode(message, conversation.encoding).unwrap().message
            else {
                panic!("no number")
            };
            assert_eq!(delta.text, next.to_string());
            next += 1;
        }
        let before = served.stats.bytes();
        assert_eq!(served.stats.paused(), 1);
        conversation.say(Ask::Resume(Resume {})).await;
        assert_eq!(conversation.number().await, next, "nothing is lost");
        assert!(served.stats.bytes() > before && served.stats.paused_for() >= Duration::from_millis(100));
        served.shutdown.abort();
    }
}

#[tokio::test]
async fn a_stop_drops_the_generation_and_tells_it_why() {
    for carrier in Carrier::ALL {
        let mut served = Served::start();
        let mut conversation = served.ask(carrier, "endless").await;
        conversation.number().await;
        conversation.say(Ask::Stop(Stop { cause: "client_gone".into() })).await;
        let reason = within(served.dropped.recv()).await.unwrap().expect("a reason");
        assert_eq!(reason.reason, "client_gone");
        let end = loop {
            match conversation.hear().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert_eq!(end.unwrap().unwrap_err().code, Code::Cancelled);
        assert_eq!(served.stats.cancelled(), 1);
        served.shutdown.abort();
    }
}

#[tokio::test]
async fn a_caller_that_leaves_drops_the_generation() {
    for carrier in Carrier::ALL {
        let mut served = Served::start();
        let mut conversation = served.ask(carrier, "endless").await;
        conversation.number().await;
        drop(conversation);
        assert!(within(served.dropped.recv()).await.unwrap().is_some(), "{carrier:?}");
        served.shutdown.abort();
    }
}

#[tokio::test]
async fn what_goes_wrong_is_a_status_and_nothing_hangs() {
    for carrier in Carrier::ALL {
        let served = Served::start();
        for (model, message) in [("refused", "too much to do"), ("panics", "the generation was lost")] {
            let mut conversation = served.ask(carrier, model).await;
            let status = conversation.hear().await.unwrap().unwrap_err();
            assert_eq!(status.message, message, "{carrier:?}");
        }
        // No start; a second start.
        let client = carrier.client(served.address);
        let call = generation::call(client.encoding());
        let mut exchange = within(client.stream(&call)).await.unwrap();
        let pause = ClientMessage::from(Ask::Pause(Pause {})).encode(client.encoding());
        exchange.outbound.send(pause).await.unwrap();
        let status = within(exchange.inbound.next()).await.unwrap().unwrap_err();
        assert!(status.message.contains("start"), "{status:?}");
        let mut conversation = served.ask(carrier, "endless").await;
        conversation.say(Ask::Start(Start::default())).await;
        while let Some(Ok(_)) = conversation.hear().await {}
        served.shutdown.abort();
    }
}
