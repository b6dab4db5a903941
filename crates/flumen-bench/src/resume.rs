//! Streams that go on over further connections.

use std::time::Duration;

use flumen_client::{Client, EventStream, Reconnect};
use tokio::time::{Instant, sleep_until};

use crate::{
    Chaos, Failure, Plan,
    check::Checker,
    exchange::{Arrival, Observer},
};

/// A client whose streams come back at once: what is measured is the server's part.
pub(crate) fn client(plan: &Plan) -> Result<Client, Failure> {
    let reconnect =
        Reconnect { base: Duration::from_millis(1), cap: Duration::from_secs(1), ..Reconnect::default() };
    let client = Client::builder(&plan.endpoint.to_string()).reconnect(reconnect).idle(Some(plan.timeout));
    Ok(client.build()?)
}

/// Asks for a stream that is resumable.
pub(crate) fn open(client: &Client, plan: &Plan, user: &str) -> EventStream {
    let request = plan.request(user);
    let mut call = client.post(&request.path, request.body);
    if let Some(Ok(key)) = plan.key.as_ref().map(|key| key.to_str()) {
        call = call.header("authorization", key);
    }
    call.stream()
}

/// Reads a stream to its end, cutting its connection as the plan says. `resumed` hears how long each cut lasted.
pub(crate) async fn read(
    mut stream: EventStream,
    chaos: Option<Chaos>,
    begin: Instant,
    observer: &mut impl Observer,
    mut resumed: impl FnMut(Duration),
) -> Result<(), Failure> {
    let (mut checker, mut arrival) = (Checker::default(), Arrival::new(Instant::now()));
    let (mut uncut, mut cut_at) = (0, None);
    let mut next = moment(chaos, begin);
    loop {
        let received = tokio::select! {
            biased;
            () = sleep_until(next.unwrap_or(begin)), if next.is_some() => {
                stream.cut();
                cut_at.get_or_insert_with(Instant::now);
                next = moment(chaos, begin);
                continue;
            }
            received = stream.next() => received,
        };
        let Some(received) = received else { return checker.end() };
        let event = received?.event;
        if let Some(cut) = cut_at.take() {
            resumed(cut.elapsed());
        }
        arrival.begin(event.wire().len() as u64);
        arrival.count(&event, checker.look(&event)?);
        observer.arrived(&arrival);
        uncut += 1;
        if let Some(Chaos::CutEvery { events }) = chaos
            && uncut >= events
            && checker.end().is_err()
        {
            uncut = 0;
            stream.cut();
            cut_at = Some(Instant::now());
        }
    }
}

/// The next moment at which all streams are cut.
fn moment(chaos: Option<Chaos>, begin: Instant) -> Option<Instant> {
    let Some(Chaos::CutAll { every }) = chaos else { return None };
    let passed = begin.elapsed().as_nanos() / every.as_nanos().max(1);
    Some(begin + every.saturating_mul(u32::try_from(passed + 1).unwrap_or(u32::MAX)))
}

impl From<flumen_client::Error> for Failure {
    fn from(error: flumen_client::Error) -> Self {
        let kind = match error.status() {
            Some(status) => format!("status {status}"),
            None => format!("{:?}", error.kind()).to_lowercase(),
        };
        Self::new(kind, error.to_string())
    }
}
