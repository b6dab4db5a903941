//! The contract's messages in Thrift, as `thrift/generation.thrift` says: the same numbers as in protocol buffers, and what has its
//! default is left out.

use super::{
    Accepted, Ask, ClientMessage, Delta, Error, Finish, Message, Pause, Resume, Sampling, Say, ServerMessage,
    Start, Stop, Times, ToolCall, ToolCallDelta, Usage,
};
use crate::thrift::{Field, Malformed, Reader, Struct, Value, Writer};

fn put<T: Value + Default + PartialEq>(to: &mut Writer, id: i16, value: &T) {
    if *value != T::default() {
        to.field(id, value);
    }
}

fn take<T: Value>(from: &mut Reader, field: Field) -> Result<T, Malformed> {
    let mut place = None;
    from.set(field, &mut place)?;
    place.ok_or(Malformed::Truncated)
}

/// Fields by number; those after `optional` may be missing.
macro_rules! form {
    ($name:ident { $($id:literal: $field:ident,)* } optional { $($other:literal: $maybe:ident,)* }) => {
        impl Struct for $name {
            #[allow(unused_variables, reason = "some have no fields")]
            fn write(&self, to: &mut Writer) {
                $(put(to, $id, &self.$field);)*
                $(to.optional($other, self.$maybe.as_ref());)*
            }

            #[allow(unused_mut, reason = "some have no fields")]
            fn read(from: &mut Reader) -> Result<Self, Malformed> {
                let mut value = Self::default();
                from.fields(|from, field| {
                    match field.id {
                        $($id => value.$field = take(from, field)?,)*
                        $($other => value.$maybe = Some(take(from, field)?),)*
                        _ => from.skip(field.of)?,
                    }
                    Ok(())
                })?;
                Ok(value)
            }
        }
    };
}

form!(Start {
    1: model, 2: dialect, 3: raw, 4: messages, 6: metadata, 7: resume_after, 8: stream,
} optional { 5: sampling, });
form!(Message { 1: role, 2: content, 3: name, 4: tool_calls, 5: tool_call_id, } optional {});
form!(ToolCall { 1: id, 2: name, 3: arguments, } optional {});
form!(Sampling { 4: stop, } optional {
    1: temperature, 2: top_p, 3: max_tokens, 5: seed, 6: presence_penalty, 7: frequency_penalty,
});
form!(Pause {} optional {});
form!(Resume {} optional {});
form!(Stop { 1: cause, } optional {});
form!(Accepted { 1: id, 2: model, } optional {});
form!(Delta { 1: index, 2: text, 3: reasoning, 4: tool_calls, 5: refusal, 6: frame, } optional {});
form!(ToolCallDelta { 1: index, 2: id, 3: name, 4: arguments, } optional {});
form!(Usage { 1: prompt_tokens, 2: completion_tokens, } optional {});
form!(Finish { 1: reason, 2: index, } optional { 3: times, });
form!(Times { 1: queued, 2: first_token, 3: total, 4: paused, } optional {});
form!(Error { 1: code, 2: message, } optional {});

impl Struct for ClientMessage {
    fn write(&self, to: &mut Writer) {
        match &self.message {
            Some(Ask::Start(start)) => to.field(1, start),
            Some(Ask::Pause(pause)) => to.field(2, pause),
            Some(Ask::Resume(resume)) => to.field(3, resume),
            Some(Ask::Stop(stop)) => to.field(4, stop),
            None => {}
        }
    }

    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let mut message = None;
        from.fields(|from, field| {
            message = Some(match field.id {
                1 => Ask::Start(take(from, field)?),
                2 => Ask::Pause(take(from, field)?),
                3 => Ask::Resume(take(from, field)?),
                4 => Ask::Stop(take(from, field)?),
                _ => return from.skip(field.of),
            });
            Ok(())
        })?;
        Ok(Self { message })
    }
}

impl Struct for ServerMessage {
    fn write(&self, to: &mut Writer) {
        match &self.message {
            Some(Say::Accepted(accepted)) => to.field(1, accepted),
            Some(Say::Delta(delta)) => to.field(2, delta),
            Some(Say::Usage(usage)) => to.field(3, usage),
            Some(Say::Finish(finish)) => to.field(4, finish),
            Some(Say::Error(error)) => to.field(5, error),
            None => {}
        }
        put(to, 6, &self.id);
    }

    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let mut value = Self::default();
        from.fields(|from, field| {
            value.message = Some(match field.id {
                1 => Say::Accepted(take(from, field)?),
                2 => Say::Delta(take(from, field)?),
                3 => Say::Usage(take(from, field)?),
                4 => Say::Finish(take(from, field)?),
                5 => Say::Error(take(from, field)?),
                6 => {
                    value.id = take(from, field)?;
                    return Ok(());
                }
                _ => return from.skip(field.of),
            });
            Ok(())
        })?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Encoding;

    fn start() -> Start {
        Start {
            model: "m".into(),
            dialect: "openai-chat".into(),
            raw: "{}".into(),
            messages: vec![Message { role: "user".into(), content: "é".into(), ..Message::default() }],
            sampling: Some(Sampling {
                temperature: Some(0.0),
                max_tokens: Some(u64::MAX),
                stop: vec!["x".into()],
                ..Sampling::default()
            }),
            metadata: BTreeMap::from([("a".into(), "b".into())]),
            resume_after: "id".into(),
            stream: true,
        }
    }

    #[test]
    fn every_message_is_the_same_in_both_encodings() {
        let asks = [
            Ask::Start(start()),
            Ask::Pause(Pause {}),
            Ask::Resume(Resume {}),
            Ask::Stop(Stop { cause: "client_gone".into() }),
        ];
        let tool = ToolCallDelta { index: 1, id: "i".into(), name: "n".into(), arguments: "{".into() };
        let delta = Delta { index: 3, text: "t".into(), tool_calls: vec![tool], ..Delta::default() };
        let times = Some(Times { queued: 1, first_token: 2, total: u64::MAX, paused: 4 });
        let says = [
            Say::Accepted(Accepted { id: "g".into(), model: String::new() }),
            Say::Delta(delta),
            Say::Delta(Delta { frame: "\0".into(), ..Delta::default() }),
            Say::Usage(Usage { prompt_tokens: 1, completion_tokens: 0 }),
            Say::Finish(Finish { reason: "stop".into(), index: 0, times }),
            Say::Error(Error { code: "c".into(), message: "m".into() }),
        ];
        for encoding in [Encoding::Proto, Encoding::Thrift] {
            for ask in asks.clone() {
                let message = ClientMessage::from(ask);
                assert_eq!(ClientMessage::decode(message.encode(encoding), encoding).unwrap(), message);
            }
            for say in says.clone() {
                let message = ServerMessage { message: Some(say), id: "7".into() };
                assert_eq!(ServerMessage::decode(message.encode(encoding), encoding).unwrap(), message);
            }
        }
    }

    #[test]
    fn a_field_of_another_type_is_an_error_and_an_unknown_one_is_none() {
        let mut writer = Writer::new();
        writer.string(1, "no start");
        writer.stop();
        assert!(ClientMessage::decode(writer.finish(), Encoding::Thrift).is_err());
        let mut writer = Writer::new();
        writer.string(99, "later");
        writer.stop();
        let message = ClientMessage::decode(writer.finish(), Encoding::Thrift).unwrap();
        assert_eq!(message.message, None);
    }
}
