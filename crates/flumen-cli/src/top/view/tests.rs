//! What is on the screen, at several sizes.

use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyCode, style::Color};
use tokio::time::Instant;

use super::*;
use crate::top::{example, poll::Problem};

fn state() -> State {
    State::new("http://127.0.0.1:9191".to_owned(), example::snapshot(), true)
}

fn press(state: &mut State, keys: &[KeyCode]) {
    for key in keys {
        state.press((*key).into());
    }
}

fn terminal(state: &State, columns: u16, lines: u16, now: Instant) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal.draw(|frame| draw(frame, state, now)).unwrap();
    terminal
}

/// The screen as lines of text.
fn screen(state: &State, columns: u16, lines: u16) -> Vec<String> {
    let terminal = terminal(state, columns, lines, state.snapshot.at);
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let mut line = String::new();
        let mut x = 0;
        while x < columns {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // The cell behind a wide character is part of it.
            x += length(width(symbol)).max(1);
        }
        line
    };
    (0..lines).map(line).collect()
}

#[test]
fn an_ordinary_terminal_shows_all_of_the_overview() {
    let screen = screen(&state(), 80, 24).join("\n");
    for part in [
        "flumen 0.1.0 · up 3h25m · 1 queued · 1 waiting · 2 streaming",
        "0.3% failed",
        "1*overview",
        "POOL",
        "large",
        "UPSTREAM",
        "local",
        "broken",
        "half-open",
        "215ms",
        "TENANT",
        "acme",
        "█",
        "66%",
        "1.2s",
        "gpt-4o",
        "queued",
        "3 ahead",
        "100 tok",
        "万物皆",
        "? help",
    ] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
}

#[test]
fn a_small_terminal_shows_what_tells_most() {
    let screen = screen(&state(), 40, 12).join("\n");
    for part in ["flumen 0.1.0", "1 queued", "UPSTREAM", "local", "broken", "STATE", "streaming", "? help"] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
}

#[test]
fn a_large_terminal_shows_everything() {
    let mut state = state();
    let overview = screen(&state, 200, 60).join("\n");
    for part in
        ["http://127.0.0.1:9191", "5 kept (80.0KiB)", "12 connections", "SLOTS", "SERVICE", "tokens/s"]
    {
        assert!(overview.contains(part), "{part}:\n{overview}");
    }
    press(&mut state, &[KeyCode::Char('2')]);
    let streams = screen(&state, 200, 60).join("\n");
    for part in ["openai-chat", "ab12cd34", "k1", "SEAMS", "local"] {
        assert!(streams.contains(part), "{part}:\n{streams}");
    }
}

#[test]
fn no_size_is_too_small_and_no_line_too_long() {
    let mut state = state();
    state.problem = Some(Problem::from("no connection"));
    for view in ['1', '2', '3', '4'] {
        press(&mut state, &[KeyCode::Char(view), KeyCode::Down]);
        for help in [false, true] {
            if help {
                press(&mut state, &[KeyCode::Char('?')]);
            }
            for (columns, lines) in
                [(0, 0), (1, 1), (3, 2), (10, 5), (40, 12), (80, 1), (1, 60), (80, 24), (500, 200)]
            {
                for line in screen(&state, columns, lines) {
                    assert_eq!(width(&line), usize::from(columns), "{view} {columns}x{lines}: {line}");
                }
            }
        }
        press(&mut state, &[KeyCode::Char('x')]);
    }
}

#[test]
fn an_empty_gateway_is_a_screen_too() {
    let mut state = state();
    let snapshot = &mut state.snapshot;
    (snapshot.streams, snapshot.tenants, snapshot.pools) = (Vec::new(), Vec::new(), Vec::new());
    for view in ['1', '2', '3', '4'] {
        press(&mut state, &[KeyCode::Char(view), KeyCode::Down, KeyCode::Char('s'), KeyCode::Char('d')]);
        assert!(screen(&state, 80, 24)[0].contains("flumen"));
    }
}

#[test]
fn nothing_of_the_server_commands_the_terminal() {
    let mut state = state();
    for view in ['1', '2', '3', '4'] {
        press(&mut state, &[KeyCode::Char(view), KeyCode::End, KeyCode::Char('s')]);
        let screen = screen(&state, 200, 60).concat();
        assert!(screen.contains("\u{fffd}]0;owned") || view == '2', "{screen}");
        assert!(!screen.contains(|one: char| one.is_control() || one == '\u{202e}'), "{screen}");
    }
}

#[test]
fn states_have_colours_besides_their_words() {
    let colour_of = |state: &State, word: &str| {
        let terminal = terminal(state, 80, 24, Instant::now());
        let buffer = terminal.backend().buffer();
        let line = screen(state, 80, 24).into_iter().enumerate().find(|(_, line)| line.contains(word));
        let (y, line) = line.unwrap();
        let x = width(&line[..line.find(word).unwrap()]);
        buffer[(length(x), length(y))].fg
    };
    let mut state = state();
    assert_eq!(
        ["broken", "half-open", "gpt-4o"].map(|word| colour_of(&state, word)),
        [Color::Red, Color::Yellow, Color::Reset]
    );
    state.colours = false;
    assert_eq!(["broken", "half-open"].map(|word| colour_of(&state, word)), [Color::Reset; 2]);
}

#[test]
fn the_selected_row_is_marked_and_in_sight() {
    let mut state = state();
    let stream = state.snapshot.streams[0].clone();
    state.snapshot.streams = (0..500)
        .map(|id: u16| crate::top::model::Stream { id: (&*id.to_string()).into(), ..stream.clone() })
        .collect();
    press(&mut state, &[KeyCode::Char('2'), KeyCode::End, KeyCode::Up]);
    let lines = screen(&state, 80, 24);
    let marked: Vec<&String> = lines.iter().filter(|line| line.starts_with("> ")).collect();
    assert!(marked.len() == 1 && marked[0].contains("498"), "{marked:?}");
    assert!(lines.concat().contains("483-499/500"), "{lines:?}");
}

#[test]
fn questions_notices_and_faults_are_seen() {
    let mut state = state();
    press(&mut state, &[KeyCode::Char('2'), KeyCode::Down, KeyCode::Char('s')]);
    assert!(screen(&state, 80, 24)[23].contains("stop stream 4 of acme (gpt-4o)? [y/n]"));
    assert!(screen(&state, 20, 24)[23].contains("[y/n]"), "the answers stay");
    press(&mut state, &[KeyCode::Char('n'), KeyCode::Char('d')]);
    assert!(screen(&state, 80, 24)[23].contains("select an upstream first"));
    press(&mut state, &[KeyCode::Char('p')]);
    state.problem = Some(Problem::from("no connection"));
    let later = state.snapshot.at + Duration::from_secs(75);
    let terminal = terminal(&state, 80, 24, later);
    let text = terminal.backend().to_string();
    assert!(text.contains("! seen 1m15s ago: no connection") && text.contains("PAUSED"), "{text}");
}
