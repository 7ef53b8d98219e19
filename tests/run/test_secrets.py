"""No key is stored or shown: a canary in every place where a user, a server or a provider may put one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.chat_server import FakeServer, Fault
from support.chat_server_batches import BatchQueue

from potstill import cli
from potstill.errors import BadSpec, PotstillError, SpecMismatch
from potstill.ledger.store import RunStore
from potstill.run.secrets import check_secrets, hide_secrets
from potstill.run.spec import Spec

KEY = "sk-CANARY-0123456789abcdef"
LABELS = ("world", "sports")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)
    rows = [f"{LABELS[i % 2]} story {i},{LABELS[i % 2] if i < 40 else ''}" for i in range(70)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")


def distill(folder: Path, url: str, *options: str, procedure: str = "kd", **teacher: Any) -> Result:
    """The command, with a spec file that has these options of its teacher."""
    table = {"name": "openai:m", "base_url": url, "parallel": 2, **teacher}
    lines = "\n".join(f"{name} = {toml(value)}" for name, value in table.items())
    (folder / "potstill.toml").write_text(
        f'budget = 1\nstudent = "linear"\ndata.file = "data.csv"\nprocedure = "{procedure}"\n'
        f"prices.m = {{ usd_per_million_input = 1, usd_per_million_output = 2 }}\n[teacher]\n{lines}\n",
        encoding="utf-8",
    )
    command = ["distill", str(folder / "potstill.toml"), "-o", str(folder / "runs" / "one"), *options]
    return CliRunner().invoke(cli.app, command)


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(each)}" for name, each in value.items()) + "}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else json.dumps(value)


def said(result: Result) -> str:
    """Everything a user sees of a command."""
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        assert isinstance(error, PotstillError), repr(error)
        return f"{result.output} {error}"
    return result.output


def leaks(folder: Path, text: str = "") -> list[str]:
    """The files in a run's workspace, and the output, that hold the canary."""
    canary = re.compile(rb"CANARY", re.I)
    files = [path for path in (folder / "runs").rglob("*") if path.is_file()] if (folder / "runs").is_dir() else []
    found = [path.name for path in files if canary.search(path.read_bytes())]
    return found + (["output"] if canary.search(text.encode()) else [])


OPTIONS: list[dict[str, Any]] = [
    {"base_url": f"http://user:{KEY}@127.0.0.1:1/v1"},
    {"base_url": f"http://{KEY}@127.0.0.1:1/v1"},
    {"base_url": f"http://127.0.0.1:1/v1?key={KEY}"},
    {"base_url": f"http://127.0.0.1:1/v1#{KEY}"},
    {"base_url": f"http://[::1/{KEY}"},
    {"base_url": f"user:{KEY}@127.0.0.1:1/v1"},
    {"base_url": f"http://127.0.0.1:1/{KEY}/v1"},
    {"key_env": KEY},
    {"api_key": KEY},
    {"api_key": "short"},
    {"effort": KEY},
    {"aliases": {"x": KEY}},
    {"key_env": [KEY]},
    {"unknown": {"nested": [{"deep": KEY}]}},
]


@pytest.mark.parametrize("procedure", ["kd", "finetune"])
@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_a_spec_with_a_key_is_refused_and_the_key_is_nowhere(
    tmp_path: Path, options: dict[str, Any], procedure: str
) -> None:
    result = distill(tmp_path, **{"url": "http://127.0.0.1:1/v1", "procedure": procedure, **options})
    assert isinstance(result.exception, BadSpec), result.exception
    assert "environment variable" in result.exception.hint
    assert not leaks(tmp_path, said(result))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flag", [f"http://user:{KEY}@h/v1", f"https://h/v1?api-key={KEY}", "https://a:b@h/v1"])
def test_an_address_of_the_command_line_with_a_key_is_refused(tmp_path: Path, flag: str) -> None:
    result = distill(tmp_path, "http://127.0.0.1:1/v1", "--base-url", flag)
    assert isinstance(result.exception, BadSpec)
    assert not leaks(tmp_path, said(result))
    assert "a:b" not in said(result)


def test_a_run_begun_with_another_address_names_neither_password(tmp_path: Path, server: FakeServer) -> None:
    assert distill(tmp_path, server.url, procedure="finetune").exit_code == 0
    store = RunStore(tmp_path / "runs" / "one", write=True)  # as an older version stored it
    identity = store.get_meta("identity")
    store.set_meta("identity", {**identity, "teacher": {**identity["teacher"], "base_url": f"http://u:{KEY}@old/v1"}})
    store.close()
    result = distill(tmp_path, server.url, procedure="finetune")
    assert isinstance(result.exception, SpecMismatch)
    assert "teacher.base_url was" in said(result)
    assert "CANARY" not in said(result)


FATAL = {"key": Fault(401, message=f"Incorrect API key: {KEY}"), "model": Fault(404, message=f"no model for {KEY}")}
REPLIES = [
    Fault(400, message=f"bad {KEY}", code=KEY, param=KEY),
    Fault(429, message=f"slow down, {KEY}", times=1, retry_after="0.01"),
    Fault(503, message=f"down for {KEY.upper()}", times=1, retry_after="0.01"),
    Fault("said", said=f"your key is {KEY}"),
    Fault("said", said=f'{{"label": "{KEY}"}}'),
    Fault(400, message=f"context_length {KEY}", code="context_length_exceeded"),
]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("how", ["batch", "direct", *FATAL])
def test_a_provider_that_repeats_the_key_has_it_stored_and_shown_nowhere(
    tmp_path: Path, server: FakeServer, kind: str, how: str
) -> None:
    faults = [FATAL[how]] * 6 if how in FATAL else REPLIES
    server.by_word = {f"story {40 + 5 * number}": fault for number, fault in enumerate(faults)}
    server.queue = BatchQueue(anthropic=kind == "anthropic") if how == "batch" else None
    options = {"name": f"{kind}:m", "batch": how == "batch", "text_timeout_s": 1.0}
    result = distill(tmp_path, server.url, **options)
    if server.queue is not None:
        for _ in range(2):
            server.queue.work(server)
            result = distill(tmp_path, server.url, **options)
    assert server.seen
    for command in ("show", "ledger"):
        shown = CliRunner().invoke(cli.app, [command, str(tmp_path / "runs" / "one")])
        assert not leaks(tmp_path, said(shown))
    assert not leaks(tmp_path, said(result))


@pytest.mark.parametrize("reason", ["failed", "cancelled"])
def test_a_batch_that_failed_says_why_without_the_key(tmp_path: Path, server: FakeServer, reason: str) -> None:
    server.queue = BatchQueue(refuses=f"{reason}: {KEY}")
    results = [distill(tmp_path, server.url, batch=True) for _ in range(3)]
    assert any(reason in said(result) for result in results)
    assert not leaks(tmp_path, " ".join(map(said, results)))


@pytest.mark.parametrize("escaped", ["\\u0073k-CANARY-0123456789abcdef", KEY])
def test_an_escaped_key_in_a_reply_is_found(tmp_path: Path, server: FakeServer, escaped: str) -> None:
    from potstill.teachers.sdk_adapter import SdkClient

    client = object.__new__(SdkClient)
    client._key = KEY
    assert client.parse(f'{{"a": ["{escaped}", {{"{escaped}": 1}}]}}') == {"a": ["[key]", {"[key]": 1}]}


@pytest.mark.parametrize(
    "value",
    [
        "https://api.openai.com/v1",
        "http://[::1]:8000/v1",
        "gte-small",
        "sk-learn-pipeline-of-the-team",
        "C:/models/m.gguf",
        "hf_tiny_random_bert",
        "a/b@2x.csv",
        "see https://h/x?y=1 for it",
        "low",
    ],
)
def test_ordinary_values_are_left_alone(value: str) -> None:
    assert hide_secrets(value) == value
    check_secrets({"base_url": value, "max_tokens": "5", "key_env": "OPENAI_API_KEY"}, "[teacher]")


def test_the_value_of_a_secret_variable_is_found_in_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", "correct horse battery")
    with pytest.raises(BadSpec) as caught:
        Spec.from_dict({"budget": 1, "teacher": {"name": "openai:m", "effort": "x correct horse battery y"}})
    assert "horse" not in str(caught.value)
