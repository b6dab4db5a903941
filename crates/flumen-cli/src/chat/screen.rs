//! What is printed, and how.

use std::io::{self, IsTerminal, Stdout, Write, stderr, stdout};

use super::answer::Answer;

/// What is shown of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    /// The data of each event, a line each.
    Json,
    /// The body as it comes.
    Raw,
}

/// The standard output.
pub(super) struct Screen {
    out: Stdout,
    form: Form,
    /// A person watches: colours are welcome, and control characters are not.
    terminal: bool,
    colours: bool,
    /// The last line has no end yet.
    open_line: bool,
    /// The last thing shown was an aside.
    in_aside: bool,
}

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

impl Screen {
    pub(super) fn new(form: Form) -> Self {
        let terminal = stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out: stdout(), form, terminal, colours, open_line: false, in_aside: false }
    }

    /// Part of the answer.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        if self.form != Form::Text || text.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.in_aside) {
            let back = if self.colours { PLAIN } else { "" };
            write!(self.out, "{back}\n\n")?;
        }
        self.open_line = !text.ends_with('\n');
        self.put(text)
    }

    /// What is not part of the answer: a thought, a call of a tool. Only people see it.
    pub(super) fn aside(&mut self, text: &str) -> io::Result<()> {
        if self.form != Form::Text || text.is_empty() || !self.terminal {
            return Ok(());
        }
        if !std::mem::replace(&mut self.in_aside, true) && self.colours {
            write!(self.out, "{DIM}")?;
        }
        self.open_line = true;
        self.put(text)
    }

    pub(super) fn json(&mut self, payload: &[u8]) -> io::Result<()> {
        if self.form != Form::Json {
            return Ok(());
        }
        // In JSON a line end can only stand between tokens, where a space means the same.
        let line: Vec<u8> = payload.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
        self.out.write_all(&[&*line, b"\n"].concat())
    }

    pub(super) fn raw(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.form == Form::Raw {
            self.out.write_all(piece)?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The answer is over; what comes next begins on a line of its own.
    pub(super) fn end_of_answer(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.in_aside) && self.colours {
            write!(self.out, "{PLAIN}")?;
        }
        if std::mem::take(&mut self.open_line) {
            writeln!(self.out)?;
        }
        self.flush()
    }

    /// How fast the answer came, for a person.
    pub(super) fn figures(&self, answer: &Answer) {
        if stderr().is_terminal() && self.form == Form::Text {
            self.remark(&figures(answer));
        }
    }

    /// A word beside the conversation.
    pub(super) fn remark(&self, text: &str) {
        let (dim, plain) = if self.colours { (DIM, PLAIN) } else { ("", "") };
        eprintln!("{dim}{text}{plain}");
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        if self.terminal && text.contains(is_unsafe) {
            return self.out.write_all(text.replace(is_unsafe, "\u{fffd}").as_bytes());
        }
        self.out.write_all(text.as_bytes())
    }
}

/// What a model could command a terminal with.
fn is_unsafe(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\t')
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 tokens")]
fn figures(answer: &Answer) -> String {
    let Some(first) = answer.first_token else { return format!("no token, {:.1?}", answer.total) };
    let speaking = answer.total.saturating_sub(first).as_secs_f64();
    let rate = if speaking > 0.0 { answer.tokens as f64 / speaking } else { 0.0 };
    format!(
        "first token {:.0} ms · {rate:.1} tokens/s · {} tokens · {:.1} s",
        first.as_secs_f64() * 1000.0,
        answer.tokens,
        answer.total.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_are_a_line() {
        let answer = Answer {
            first_token: Some(Duration::from_millis(200)),
            total: Duration::from_millis(2200),
            tokens: 100,
            ..Answer::default()
        };
        assert_eq!(figures(&answer), "first token 200 ms · 50.0 tokens/s · 100 tokens · 2.2 s");
    }

    #[test]
    fn a_model_cannot_command_a_terminal() {
        let said = "a\x1b[31mb\u{9b}2Jc\r\u{7}\n\t🌊";
        assert_eq!(said.replace(is_unsafe, "?"), "a?[31mb?2Jc??\n\t🌊");
    }
}
