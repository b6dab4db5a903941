//! `POST /v1/chat/completions`.

use tokio::time::Instant;

use crate::{
    directives::Plan,
    error::ApiError,
    frames::Shape,
    generation::Order,
    request::{Prompt, Request},
    settings::Settings,
    toolcall,
};

/// What a request for a chat completion orders.
pub(crate) fn order<'a>(
    settings: &'a Settings,
    request: &'a Request,
    directives: &str,
    started: Instant,
) -> Result<Order<'a>, ApiError> {
    let model = request.model.as_deref().ok_or_else(|| ApiError::missing("model"))?;
    let messages = request.messages.as_deref().ok_or_else(|| ApiError::missing("messages"))?;
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "`messages` needs at least one message"));
    }
    if request.n.is_some_and(|n| n != 1) {
        return Err(ApiError::invalid("n", "one choice per request is all there is: `n` must be 1"));
    }
    let plan = Plan::new(settings, model, directives)?;
    let spoken = messages
        .last()
        .filter(|last| request.continue_final_message == Some(true) && last.role == "assistant");
    let spoken = spoken.map(crate::request::Message::text).unwrap_or_default();
    let messages = if spoken.is_empty() { messages } else { &messages[..messages.len() - 1] };
    let texts: Vec<String> = messages.iter().map(crate::request::Message::text).collect();
    let prompt =
        Prompt::new(messages.iter().map(|message| &*message.role).zip(texts.iter().map(|text| &**text)))
            .continued(&spoken);
    let user = messages.iter().rposition(|message| message.role == "user").map_or("", |at| &*texts[at]);
    let (mut shape, mut text) = (Shape::Chat, None);
    if plan.echo {
        text = Some(user.to_owned());
    } else if let Some(function) = toolcall::wanted(request, messages, user)? {
        let seed = plan.seed.unwrap_or(prompt.hash);
        shape = Shape::ToolCall {
            id: format!("call_sim_{:016x}", crate::hash::mix(seed)),
            name: function.name.clone(),
        };
        text = Some(toolcall::arguments(function, seed));
    }
    Ok(Order { settings, plan, model, request, prompt, shape, text, spoken, started })
}
