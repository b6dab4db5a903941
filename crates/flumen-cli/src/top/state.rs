//! What the view shows, and what keys do to it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::time::Instant;

use super::{
    history::History,
    model::{Snapshot, Upstream},
    poll::{Order, Problem},
    sheet::{Sheet, Target, Tone},
    tables,
    text::name,
};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Streams,
    Tenants,
    Pools,
}

impl View {
    pub(super) const ALL: [Self; 4] = [Self::Overview, Self::Streams, Self::Tenants, Self::Pools];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Streams => "streams",
            Self::Tenants => "tenants",
            Self::Pools => "pools",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Overview => Self::Streams,
            Self::Streams => Self::Tenants,
            Self::Tenants => Self::Pools,
            Self::Pools => Self::Overview,
        }
    }

    fn before(self) -> Self {
        self.next().next().next()
    }
}

/// What keys are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Looking,
    Help,
    /// Whether this shall be done, asked with these words.
    Asking {
        question: String,
        order: Order,
    },
}

/// What a key asks of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Do(Order),
}

/// All that is on the screen.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Who is looked at.
    pub(super) gateway: String,
    pub(super) snapshot: Snapshot,
    pub(super) history: History,
    pub(super) view: View,
    pub(super) mode: Mode,
    pub(super) paused: bool,
    pub(super) colours: bool,
    /// Why the last look failed, until one succeeds.
    pub(super) problem: Option<Problem>,
    /// What came of the last key.
    pub(super) notice: Option<(String, Tone)>,
    pub(super) selected: Option<Target>,
    /// Where the selection is, or was when what it was on went away.
    place: usize,
}

impl State {
    pub(super) fn new(gateway: String, snapshot: Snapshot, colours: bool) -> Self {
        let mut history = History::default();
        history.push(&snapshot);
        Self {
            gateway,
            snapshot,
            history,
            view: View::Overview,
            mode: Mode::Looking,
            paused: false,
            colours,
            problem: None,
            notice: None,
            selected: None,
            place: 0,
        }
    }

    /// What a look brought.
    pub(super) fn looked(&mut self, outcome: Result<Snapshot, Problem>) {
        match outcome {
            Ok(snapshot) => {
                self.problem = None;
                self.history.push(&snapshot);
                self.snapshot = snapshot;
                self.reselect();
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// What came of an order.
    pub(super) fn done(&mut self, order: &Order, outcome: Result<(), Problem>) {
        self.notice = Some(match outcome {
            Ok(()) => (format!("done: {order}"), Tone::Good),
            Err(problem) => (format!("cannot {order}: {problem}"), Tone::Bad),
        });
    }

    /// How old what is shown is, in seconds.
    pub(super) fn age(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.snapshot.at).as_secs()
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c')).then_some(Wish::Quit);
        }
        self.notice = None;
        match std::mem::replace(&mut self.mode, Mode::Looking) {
            Mode::Help => None,
            Mode::Asking { order, .. } if matches!(key.code, KeyCode::Char('y' | 'Y')) => {
                Some(Wish::Do(order))
            }
            Mode::Asking { .. } => {
                self.notice = Some(("nothing was done".to_owned(), Tone::Dim));
                None
            }
            Mode::Looking => self.look(key.code),
        }
    }

    fn look(&mut self, key: KeyCode) -> Option<Wish> {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Wish::Quit),
            KeyCode::Tab | KeyCode::Right => self.turn(self.view.next()),
            KeyCode::BackTab | KeyCode::Left => self.turn(self.view.before()),
            KeyCode::Char('1') => self.turn(View::Overview),
            KeyCode::Char('2') => self.turn(View::Streams),
            KeyCode::Char('3') => self.turn(View::Tenants),
            KeyCode::Char('4') => self.turn(View::Pools),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::PageDown => self.move_by(10),
            KeyCode::PageUp => self.move_by(-10),
            KeyCode::Home => self.move_by(isize::MIN),
            KeyCode::End => self.move_by(isize::MAX),
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('s') => self.ask_to_stop(),
            KeyCode::Char('d') => {
                return self.order(|one| {
                    if one.is_draining() {
                        Order::Undrain(one.name.clone())
                    } else {
                        Order::Drain(one.name.clone())
                    }
                });
            }
            KeyCode::Char('o') => {
                return self.order(|one| {
                    if one.is_shut() { Order::Close(one.name.clone()) } else { Order::Open(one.name.clone()) }
                });
            }
            _ => {}
        }
        None
    }

    fn turn(&mut self, view: View) {
        self.view = view;
        self.reselect();
    }

    /// What can be selected in this view, from above to below, each once.
    fn targets(&self) -> Vec<Target> {
        let of = |sheet: Sheet| sheet.rows.into_iter().filter_map(|row| row.target);
        let mut targets: Vec<Target> = Vec::new();
        let upstreams = || of(tables::upstreams(&self.snapshot));
        let streams = || of(tables::streams(&self.snapshot));
        let all: Box<dyn Iterator<Item = Target>> = match self.view {
            View::Overview => Box::new(upstreams().chain(streams())),
            View::Streams => Box::new(streams()),
            View::Tenants => Box::new(of(tables::tenants(&self.snapshot))),
            View::Pools => Box::new(upstreams()),
        };
        for target in all {
            // An upstream may serve several pools; it is still one to point at. Streams have ids of their own.
            if matches!(target, Target::Stream(_)) || !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }

    /// Finds what was selected again. What is gone leaves no selection: a key must not hit what took its place.
    fn reselect(&mut self) {
        let targets = self.targets();
        let found = targets.iter().position(|target| Some(target) == self.selected.as_ref());
        if found.is_none() {
            self.selected = None;
        }
        self.place = found.unwrap_or(self.place.min(targets.len().saturating_sub(1)));
    }

    fn move_by(&mut self, rows: isize) {
        let mut targets = self.targets();
        let Some(last) = targets.len().checked_sub(1) else { return };
        if self.selected.is_some() || rows.unsigned_abs() > 1 {
            self.place = self.place.saturating_add_signed(rows);
        }
        self.place = self.place.min(last);
        self.selected = Some(targets.swap_remove(self.place));
    }

    fn ask_to_stop(&mut self) {
        let Some(Target::Stream(id)) = &self.selected else {
            self.notice = Some(("select a stream first (2, then up and down)".to_owned(), Tone::Warn));
            return;
        };
        let Some(stream) = self.snapshot.streams.iter().find(|stream| stream.id == *id) else { return };
        let (tenant, model) = (name(stream.tenant.as_ref()), name(stream.model.as_ref()));
        let question = format!("stop stream {id} of {tenant} ({model})?");
        self.mode = Mode::Asking { question, order: Order::Stop(id.clone()) };
    }

    fn order(&mut self, order: impl FnOnce(&Upstream) -> Order) -> Option<Wish> {
        let upstreams = self.snapshot.pools.iter().flat_map(|pool| &pool.upstreams);
        let selected = match &self.selected {
            Some(Target::Upstream(name)) => upstreams.into_iter().find(|upstream| upstream.name == *name),
            _ => None,
        };
        if selected.is_none() {
            self.notice = Some(("select an upstream first (4, then up and down)".to_owned(), Tone::Warn));
        }
        selected.map(|upstream| Wish::Do(order(upstream)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::example, *};

    fn state() -> State {
        State::new("http://127.0.0.1:9191".to_owned(), example::snapshot(), true)
    }

    fn press(state: &mut State, keys: &str) -> Option<Wish> {
        let code = |key| match key {
            '↓' => KeyCode::Down,
            '↑' => KeyCode::Up,
            '⇥' => KeyCode::Tab,
            '⇤' => KeyCode::BackTab,
            '⎋' => KeyCode::Esc,
            '⇟' => KeyCode::End,
            key => KeyCode::Char(key),
        };
        keys.chars().map(|key| state.press(code(key).into())).last().flatten()
    }

    #[test]
    fn keys_quit_unless_something_is_asked() {
        for (keys, quits) in
            [("q", true), ("⎋", true), ("?⎋", false), ("?⎋q", true), ("2↓sq", false), ("x", false)]
        {
            assert_eq!(press(&mut state(), keys) == Some(Wish::Quit), quits, "{keys}");
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let mut asked = state();
        press(&mut asked, "2↓s");
        assert_eq!(asked.press(interrupt), Some(Wish::Quit));
    }

    #[test]
    fn views_follow_each_other() {
        let mut state = state();
        for (keys, view) in
            [("⇥", View::Streams), ("⇥⇥", View::Pools), ("⇥", View::Overview), ("⇤", View::Pools)]
        {
            press(&mut state, keys);
            assert_eq!(state.view, view);
        }
        for (key, view) in ["1", "2", "3", "4"].into_iter().zip(View::ALL) {
            press(&mut state, key);
            assert_eq!(state.view, view);
        }
    }

    #[test]
    fn a_stream_is_stopped_once_it_was_asked_for_and_confirmed() {
        let stop = |id: &str| Some(Wish::Do(Order::Stop(id.into())));
        assert_eq!(press(&mut state(), "2sy"), None, "nothing is selected");
        assert_eq!(press(&mut state(), "2↓sn"), None);
        assert_eq!(press(&mut state(), "2↓sy"), stop("4"));
        assert_eq!(press(&mut state(), "2↓↓↓↑sy"), stop("5"));
        assert_eq!(press(&mut state(), "⇟sy"), stop("7"), "the overview has them below the upstreams");
        let mut state = state();
        press(&mut state, "2↓s");
        let Mode::Asking { question, .. } = &state.mode else { panic!("{:?}", state.mode) };
        assert_eq!(question, "stop stream 4 of acme (gpt-4o)?");
        let mut next = state.snapshot.clone();
        next.streams.remove(0);
        state.looked(Ok(next));
        assert_eq!(press(&mut state, "y"), stop("4"), "what was asked for, whatever has its place now");
    }

    #[test]
    fn what_is_gone_is_not_selected_any_more() {
        let mut state = state();
        press(&mut state, "2↓↓");
        let mut next = state.snapshot.clone();
        next.streams.remove(1);
        state.looked(Ok(next));
        assert_eq!(state.selected, None);
        press(&mut state, "↓");
        assert_eq!(state.selected, Some(Target::Stream("6".into())), "the one that has its place");
        let mut next = state.snapshot.clone();
        next.streams.clear();
        state.looked(Ok(next));
        press(&mut state, "↓↑⇟");
        assert_eq!(state.selected, None);
    }

    #[test]
    fn upstreams_are_drained_and_broken_and_back() {
        let order = |keys| match press(&mut state(), keys) {
            Some(Wish::Do(order)) => order.to_string(),
            wish => format!("{wish:?}"),
        };
        assert_eq!(order("4↓d"), "drain local");
        assert_eq!(order("4↓o"), "open the breaker of local");
        assert_eq!(order("4↓↓o"), "close the breaker of remote");
        assert!(order("4⇟d").starts_with("undrain"), "{}", order("4⇟d"));
        assert_eq!(order("2↓d"), "None", "that is a stream");
    }

    #[test]
    fn a_failed_look_leaves_what_was_seen() {
        let mut state = state();
        let problem = super::super::poll::Problem::from("gone");
        state.looked(Err(problem));
        assert_eq!((state.snapshot.streams.len(), state.problem.is_some()), (4, true));
        state.looked(Ok(example::snapshot()));
        assert_eq!(state.problem, None);
    }
}
