//! What happens when a connection is over: another one, or the end.

use http::Method;
use tokio::time::sleep;

use super::{EventStream, State};
use crate::{
    End, Error, ErrorKind,
    link::{Class, Fault},
};

impl EventStream {
    pub(super) fn body_end(&mut self) {
        let eventsource = self.ask.method == Method::GET && self.position.stream.is_none();
        match self.ask.settings.end {
            End::Auto if self.position.stream.is_some() => {
                // Most likely this was all; the gateway knows.
                let error = Error::new(ErrorKind::Broken, "the answers of the server end before the stream");
                self.again(Fault::new(Class::Broke, error), true);
            }
            End::Auto if eventsource && self.position.last_id.is_some() => self.pause(),
            End::Auto | End::Body => self.end(),
            End::Never if self.may_go_on(Class::Broke) => self.pause(),
            End::Never | End::Mark(_) | End::Name(_) => {
                self.fail(Fault::broke("the answer ended before its end mark"));
            }
        }
    }

    /// The next connection of an `EventSource`: nothing has failed.
    fn pause(&mut self) {
        self.hang_up();
        self.state = State::Waiting(Box::pin(sleep(self.retries.pause())));
    }

    pub(super) fn fail(&mut self, fault: Fault) {
        self.again(fault, false);
    }

    /// Connects again, if that may help. `only_asks`: there is most likely nothing to wait for.
    fn again(&mut self, mut fault: Fault, only_asks: bool) {
        if fault.class == Class::Final {
            self.finally(fault.error);
        } else if !self.may_go_on(fault.class) {
            fault.error = fault.error.and("the answer cannot be resumed");
            self.finally(fault.error);
        } else if let Some(wait) = self.retries.next(fault.after, fastrand::f64()) {
            let wait = if only_asks && self.retries.is_first() { self.retries.asked() } else { wait };
            self.hang_up();
            self.state = State::Waiting(Box::pin(sleep(wait)));
        } else {
            self.finally(fault.error);
        }
    }

    /// Whether another connection continues this stream instead of beginning another.
    pub(super) fn may_go_on(&self, class: Class) -> bool {
        let get = self.ask.method == Method::GET;
        let unsent = class == Class::Unsent && !self.answered;
        let kept = !self.answered && self.ask.key.is_some();
        let nothing_yet = self.tally.is_empty();
        let repost = self.ask.settings.repost && (self.position.last_id.is_some() || nothing_yet);
        get || self.position.stream.is_some() || unsent || kept || repost
    }

    /// Closes the connection.
    pub(super) fn hang_up(&mut self) {
        let link = std::mem::replace(&mut self.state, State::Ended);
        let timings = if let State::Open(link) = &link { Some(link.timings()) } else { None };
        let bytes = timings.is_some_and(|timings| timings.body_bytes_in > 0);
        self.tally.over(timings);
        self.ladder.over(bytes);
    }

    pub(super) fn end(&mut self) {
        if matches!(self.state, State::Open(_)) {
            self.hang_up();
        }
        self.state = State::Ended;
    }

    pub(super) fn finally(&mut self, error: Error) {
        self.end();
        self.state = State::Failed(error);
    }
}
