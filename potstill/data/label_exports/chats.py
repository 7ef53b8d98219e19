"""Chats for fine-tuning: the last turn of the user is the text, the answer to it the label.

Read are `messages` with roles (OpenAI, Anthropic, Hugging Face), `contents` with parts (Gemini), `conversations` of
`from` and `value` (ShareGPT), pairs of `prompt` and `completion`, and `instruction`, `input`, `output` (Alpaca). System
turns and earlier turns are left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.data.label_exports.base import ExportRows, LabelExport, counted, records
from potstill.data.tables import Table

TOOL = "chats"
_PAIR = "prompt completion".split()
_INSTRUCTED = ("instruction", "input", "output")
_COLUMNS = ("messages", "conversations", "conversation", "contents")
_SYSTEM_COLUMNS = ("system", "system_instruction", "systemInstruction")
_ASKS, _ANSWERS, _INSTRUCTS = "user human".split(), "assistant gpt model".split(), "system developer".split()


@dataclass(frozen=True)
class _Chat:
    """A chat's last question and its answer, and the number of turns that are left out."""

    text: str | None
    label: str | None
    system: int
    earlier: int


def read_chats(table: Table, named: str, labels: Sequence[str]) -> LabelExport | None:
    """The chats as a table; None if there are none."""
    column = next((name for name in _COLUMNS if name in table.cells and _is_chat(table, name)), None)
    if column is None:
        return _read_completions(table)
    rows = ExportRows(table)
    n_system = n_earlier = n_answered = 0
    for row, cell in enumerate(table.column(column)):
        chat = _read_chat(records(cell))
        system = any(table.cells[name][row] for name in _SYSTEM_COLUMNS if name in table.cells)
        n_system, n_earlier = n_system + (system or chat.system > 0), n_earlier + (chat.earlier > 0)
        n_answered += chat.label is not None
        others = {name: cells[row] for name, cells in table.cells.items() if name != column}
        rows.add(row, {**others, "text": chat.text, "label": chat.label})
    sentences = [
        f"{table.name} holds {TOOL}: the last turn of the user is the text, and the answer to it the label "
        f"({n_answered:,} of {len(table):,} have one)."
    ]
    if n_system:
        sentences.append(
            f"{counted(n_system, 'chat has', 'chats have')} a system turn, which is not read; what it says about the "
            "labels can be the `instruction` under [task]."
        )
    if n_earlier:
        sentences.append(f"{counted(n_earlier, 'chat has', 'chats have')} earlier turns, which are not read.")
    return LabelExport(TOOL, rows.table(("text", "label")), "text", "label", ("label",), sentences=tuple(sentences))


def _is_chat(table: Table, column: str) -> bool:
    turns = [records(cell) for cell in table.column(column) if cell]
    return bool(turns) and all(each and all(_role(turn) for turn in each) for each in turns)


def _role(turn: Mapping[str, Any]) -> str:
    role = turn.get("role", turn.get("from"))
    return role.strip().casefold() if isinstance(role, str) else ""


def _read_chat(turns: Sequence[Mapping[str, Any]]) -> _Chat:
    roles = [_role(turn) for turn in turns]
    asked = max((n for n, role in enumerate(roles) if role in _ASKS), default=None)
    system = sum(role in _INSTRUCTS for role in roles)
    if asked is None:
        return _Chat(None, None, system, len(turns) - system)
    answer = next((n for n in range(asked + 1, len(turns)) if roles[n] in _ANSWERS), None)
    label = None if answer is None else (_content(turns[answer]) or "").strip() or None
    used = 1 + (answer is not None)
    return _Chat(_content(turns[asked]), label, system, len(turns) - system - used)


def _content(turn: Mapping[str, Any]) -> str | None:
    """The text of a turn; of several parts those of text, joined."""
    content = turn.get("content", turn.get("value", turn.get("parts")))
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def _read_completions(table: Table) -> LabelExport | None:
    """Pairs of prompt and completion, or of instruction, input and output."""
    text, label = _PAIR
    if {text, label} <= table.cells.keys() and len(table.columns) <= 3:
        sentence = f"{table.name} holds prompts and completions: the prompt is the text, and the completion the label."
        return LabelExport(TOOL, table, text, label, (label,), sentences=(sentence,))
    if set(_INSTRUCTED) <= table.cells.keys():
        _, text, label = _INSTRUCTED
        text = text if all(table.column(text)) else _INSTRUCTED[0]
        left_out = ", ".join(name for name in _INSTRUCTED if name not in (text, label))
        sentence = f"{table.name} holds instructions: {text!r} is the text, {label!r} the label; not read: {left_out}."
        facts = frozenset(_INSTRUCTED) - {text, label}
        return LabelExport(TOOL, table, text, label, (label,), facts, (sentence,))
    return None
