"""What a caller wants, whichever way it was written: the contract's own messages, or JSON of OpenAI's API."""

import dataclasses
import json

LONGEST = 256


@dataclasses.dataclass
class Wish:
    model: str
    prompt: str
    temperature: float
    seed: int | None
    # None only for an answer without end.
    max_tokens: int | None

    @property
    def endless(self):
        return self.model.endswith("endless")


def read(start):
    """Raises ValueError with words for whoever wrote the request."""
    prompt, asked = _from_json(start) if start.raw else _from_messages(start)
    wish = Wish(start.model, prompt, asked.get("temperature"), asked.get("seed"), asked.get("max_tokens"))
    if wish.temperature is None:
        wish.temperature = 1.0
    if not isinstance(wish.temperature, int | float) or not 0 <= wish.temperature <= 2:
        raise ValueError("`temperature` must be between 0 and 2")
    if wish.max_tokens is None:
        wish.max_tokens = None if wish.endless else LONGEST
    elif not isinstance(wish.max_tokens, int) or wish.max_tokens < 1:
        raise ValueError("`max_tokens` must be a whole number above 0")
    if wish.seed is not None and not isinstance(wish.seed, int):
        raise ValueError("`seed` must be a whole number")
    if asked.get("stop"):
        # An answer that ignores what was asked for looks like a good one.
        raise ValueError("`stop` is not supported")
    return wish


def _from_messages(start):
    asked = {field.name: value for field, value in start.sampling.ListFields()}
    return (start.messages[-1].content if start.messages else ""), asked


def _from_json(start):
    try:
        body = json.loads(start.raw)
    except ValueError as fault:
        raise ValueError(f"this is no JSON: {fault}") from None
    try:
        if start.dialect == "openai-chat":
            content = body["messages"][-1]["content"]
        elif start.dialect == "openai-completions":
            content = body["prompt"]
        else:
            raise ValueError(f"`{start.dialect}` is not spoken here")
        # A text, or parts of which some are text.
        prompt = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    except (AttributeError, IndexError, KeyError, TypeError) as fault:
        raise ValueError(f"this is no request of {start.dialect}: {fault!r}") from None
    return prompt, {**body, "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens")}
