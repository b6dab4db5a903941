//! A conversation at a terminal.

use std::process::ExitCode;

use rustyline::{DefaultEditor, error::ReadlineError};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Chat, EXIT_INTERRUPTED, Ended, Screen, ask};
use crate::fail;

const HELP: &str = "/new begins a new conversation, /model NAME asks another model, /quit or Ctrl-D leaves.\n\
                    Ctrl-C cancels an answer; at the prompt it leaves.";

/// Talks until the user leaves.
pub(super) fn run(runtime: &Runtime, mut chat: Chat, screen: &mut Screen) -> ExitCode {
    let mut editor = match DefaultEditor::new() {
        Ok(editor) => editor,
        Err(error) => return fail(&format_args!("this terminal cannot be used: {error}"), 1),
    };
    screen.remark(&format!("{} at {}; /help tells more", chat.model, chat.endpoint));
    let mut messages: Vec<Value> = Vec::new();
    loop {
        let line = match editor.readline("› ") {
            Ok(line) => line,
            Err(ReadlineError::Eof) => return ExitCode::SUCCESS,
            Err(ReadlineError::Interrupted) => return ExitCode::from(EXIT_INTERRUPTED),
            Err(error) => return fail(&format_args!("the terminal failed: {error}"), 1),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(line);
        match line.split_once(' ').unwrap_or((line, "")) {
            ("/quit" | "/exit", _) => return ExitCode::SUCCESS,
            ("/help", _) => screen.remark(HELP),
            ("/new", _) => {
                messages.clear();
                screen.remark("a new conversation");
            }
            ("/model", name) if !name.trim().is_empty() => {
                name.trim().clone_into(&mut chat.model);
                screen.remark(&format!("now {}", chat.model));
            }
            (command, _) if command.starts_with('/') => screen.remark(HELP),
            _ => {
                messages.push(json!({"role": "user", "content": line}));
                if !talk(runtime, &chat, &mut messages, screen) {
                    return ExitCode::SUCCESS;
                }
            }
        }
    }
}

/// Asks, and keeps what was said. Whether anybody still reads.
fn talk(runtime: &Runtime, chat: &Chat, messages: &mut Vec<Value>, screen: &mut Screen) -> bool {
    let answer = match runtime.block_on(ask(chat, messages, screen)) {
        Ended::Complete(answer) => {
            screen.figures(&answer);
            answer
        }
        Ended::Cancelled(answer) => {
            screen.remark("stopped");
            answer
        }
        Ended::Failed(failure, answer) => {
            eprintln!("flumen: {failure}");
            answer
        }
        Ended::NobodyReads => return false,
    };
    if answer.text.is_empty() {
        // A question without an answer is not part of the conversation: most models refuse two in a row.
        messages.pop();
    } else {
        messages.push(json!({"role": "assistant", "content": answer.text}));
    }
    true
}
