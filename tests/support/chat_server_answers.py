"""What the stand-in answers when it is asked for an answer in words: the topics of the words of `answered`."""

from __future__ import annotations

from typing import Any

from support.answered import TOPICS


def answer_in(body: dict[str, Any]) -> str:
    """The reply to a request for an answer in words; empty for any other request."""
    if "Reply with the answer alone" not in str(body["messages"][0]["content"]):
        return ""
    asked = [each["content"] for each in body["messages"] if "<text>" in each["content"]][-1]
    words = asked.split("<text>\n")[-1].split("\n</text>")[0].split()
    topics = [topic for word in words for topic, own in TOPICS.items() if word in own]
    return " ".join(topics) or "nothing"
