//! How fast an answer may go out: pacing is backpressure, so a model that is faster waits.

use std::time::Duration;

use flumen_stream::{End, Frame, Pace, StreamTools};
use futures_util::{Stream, StreamExt, stream::BoxStream};

use super::Numbered;
use crate::{
    access::Identity,
    config::{Limits, Shape},
    core::Core,
};

/// At most so many frames and bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pacing {
    frames: Option<Pace>,
    bytes: Option<Pace>,
}

/// What may be made up for, unless the configuration says otherwise.
const BURST: Duration = Duration::from_secs(1);

impl Pacing {
    /// The pace that limits allow.
    pub(crate) fn of(limits: &Limits) -> Self {
        let pace = |rate: Option<u64>| {
            #[expect(clippy::cast_precision_loss, reason = "a rate, not a count")]
            let rate = rate? as f64;
            let pace = Pace::per_second(rate);
            Some(match limits.shape {
                Shape::LeakyBucket => pace,
                Shape::TokenBucket => {
                    let most = rate * limits.shape_burst.unwrap_or(BURST).as_secs_f64();
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "within the bounds"
                    )]
                    pace.burst(most.clamp(1.0, f64::from(u32::MAX)) as u32)
                }
            })
        };
        Self { frames: pace(limits.frames_per_second), bytes: pace(limits.bytes_per_second) }
    }

    /// The pace at which somebody may read a stream of a model.
    pub(crate) fn for_reader(core: &Core, identity: &Identity, model: &str) -> Self {
        let routing = core.routing();
        let of_model = routing.config().models.get(model).map(|model| &model.limits);
        Self::of(&core.limiter().of_one_answer(identity, of_model.unwrap_or(&Limits::default())))
    }

    /// How long so many frames and bytes take at this pace.
    pub(super) fn span(self, frames: u64, bytes: usize) -> Duration {
        let frames = self.frames.map(|pace| pace.span(usize::try_from(frames).unwrap_or(usize::MAX)));
        let bytes = self.bytes.map(|pace| pace.span(bytes));
        frames.max(bytes).unwrap_or_default()
    }

    /// Holds a stream to the pace.
    pub(super) fn hold(
        self,
        events: impl Stream<Item = Result<Numbered, End>> + Send + 'static,
    ) -> BoxStream<'static, Result<Numbered, End>> {
        let events = match self.frames {
            Some(pace) => events.paced(pace).boxed(),
            None => events.boxed(),
        };
        match self.bytes {
            Some(pace) => events.paced_bytes(pace).boxed(),
            None => events,
        }
    }
}

impl Frame for Numbered {
    fn size(&self) -> usize {
        self.wire.len()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::time::Instant;

    use super::*;

    async fn times(limits: &Limits) -> Vec<u128> {
        let start = Instant::now();
        let events = (0..4).map(|_| Ok(Numbered { id: None, wire: "data: 12\n\n".into(), retry: None }));
        Pacing::of(limits).hold(stream::iter(events)).map(|_| start.elapsed().as_millis()).collect().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_bucket_makes_up_for_time_and_a_leaky_one_does_not() {
        let limits = Limits {
            frames_per_second: Some(10),
            shape_burst: Some(Duration::from_millis(300)),
            ..Limits::default()
        };
        assert_eq!(times(&limits).await, [0, 0, 0, 100]);
        assert_eq!(times(&Limits { shape: Shape::LeakyBucket, ..limits }).await, [0, 100, 200, 300]);
        let bytes = Limits { bytes_per_second: Some(100), shape: Shape::LeakyBucket, ..Limits::default() };
        assert_eq!(times(&bytes).await, [0, 100, 200, 300]);
        assert_eq!(times(&Limits::default()).await, [0; 4]);
    }
}
