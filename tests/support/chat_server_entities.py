"""What the stand-in answers when it is asked for entities: the words of `marked_texts` with their types, as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from support.marked_texts import FOOD, MONEY, MORE_FOOD, TYPES

_DISH = rf"\b(?:{'|'.join(FOOD + MORE_FOOD)})(?: (?:{'|'.join(MORE_FOOD)}))?\b"
_WORDS = re.compile(rf"(?P<dish>{_DISH})|(?P<finance>\b(?:{'|'.join(MONEY)})\b)")


def entities_in(body: dict[str, Any]) -> str:
    """The reply to a request for entities; empty for any other request."""
    if "The types:" not in body["messages"][0]["content"]:
        return ""
    asked = [each["content"] for each in body["messages"] if "<text>" in each["content"]][-1]
    text = asked.split("<text>\n")[-1].split("\n</text>")[0]
    found = [{"text": each[0], "type": TYPES[each["finance"] is not None]} for each in _WORDS.finditer(text)]
    return json.dumps({"entities": found})
