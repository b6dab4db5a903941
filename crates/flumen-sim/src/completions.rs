//! `POST /v1/completions`, the legacy form.

use tokio::time::Instant;

use crate::{
    directives::Plan,
    error::ApiError,
    frames::Shape,
    generation::Order,
    request::{Prompt, Request},
    settings::Settings,
};

/// What a request for a completion of this text orders.
pub(crate) fn order<'a>(
    settings: &'a Settings,
    request: &'a Request,
    prompts: &[String],
    directives: &str,
    started: Instant,
) -> Result<Order<'a>, ApiError> {
    let model = request.model.as_deref().ok_or_else(|| ApiError::missing("model"))?;
    let [text] = prompts else {
        return Err(match prompts {
            [] => ApiError::missing("prompt"),
            _ => ApiError::invalid("prompt", "one prompt per request is all that is answered"),
        });
    };
    if request.n.is_some_and(|n| n != 1) {
        return Err(ApiError::invalid("n", "one choice per request is all there is: `n` must be 1"));
    }
    let plan = Plan::new(settings, model, directives)?;
    let prompt = Prompt::new([("", &**text)].into_iter());
    let text = plan.echo.then(|| text.clone());
    let spoken = String::new();
    Ok(Order { settings, plan, model, request, prompt, shape: Shape::Text, text, spoken, started })
}
