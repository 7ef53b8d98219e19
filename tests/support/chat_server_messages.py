"""The stand-in in Anthropic's dialect: a request of its Messages API as a chat completion's, and the reply back."""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]


def chat_of(body: Body) -> Body:
    """A Messages request as the chat completion request that asks the same."""
    system = "".join(part["text"] for part in body.get("system") or ())
    messages = [{"role": "system", "content": system}]
    for message in body["messages"]:
        content = message["content"]
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        messages.append({"role": message["role"], "content": text})
    chat = {name: value for name, value in body.items() if name not in ("system", "messages", "output_config")}
    if "format" in body.get("output_config", {}):
        chat["response_format"] = body["output_config"]["format"]
    return {**chat, "messages": messages, "anthropic": body}


def message_of(done: Body) -> Body:
    """A chat completion as a Message."""
    choice = done["choices"][0]
    text, refusal = choice["message"]["content"], choice["message"]["refusal"]
    stop = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}[choice["finish_reason"]]
    message: Body = {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": done["model"],
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": "refusal" if refusal else stop,
        "stop_sequence": None,
    }
    usage = done.get("usage")
    if usage is not None:
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        written = usage["prompt_tokens"] // 2 if not cached else 0
        message["usage"] = {
            "input_tokens": usage["prompt_tokens"] - cached - written,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": written,
            "output_tokens": usage["completion_tokens"],
        }
    return message
