"""A distilling process is killed, interrupted, opened twice and starved of disk: the short form of `bench/crash.py`.

Real processes, a real server, SIGKILL. What each sentence below means in figures is in `crash_study.broken`.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import crash_study
from support.commands import fork_command
from support.crash_study import NEVER_S, Ended, Study, broken, distil, fill_disk, interrupt, open_twice, worth
from support.provider import provider


@dataclass(frozen=True)
class Ground:
    """A study, the provider's address, a spec with money enough, and how it ends undisturbed."""

    study: Study
    url: str
    spec: Path
    uncut: Ended


def nightly(by: signal.Signals, code: int) -> Any:
    return pytest.param(by, code, marks=pytest.mark.nightly)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with provider(latency_s=0.05, faults=0.05) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(crash_study, "start", fork_command)  # the long form starts each from the beginning
        study = Study(tmp_path_factory.mktemp("crash"), n=80, timeout_s=2.0)
        spec = study.write(url, 20, "ample")
        yield Ground(study, url, spec, distil(spec, study.out("uncut"), url, lambda: NEVER_S))


@pytest.mark.slow
def test_a_run_killed_at_random_instants_overspends_nothing_and_ends_the_same(ground: Ground) -> None:
    luck = random.Random(5)
    killed = distil(
        ground.spec,
        ground.study.out("killed"),
        ground.url,
        lambda: luck.uniform(0, 0.1),
        most=2,
        since_asking=True,
    )
    assert killed.code == 0, killed.said
    assert len(killed.kills) == 2
    assert sum(kill.held_calls for kill in killed.kills), "no kill met a call in flight"
    assert not broken(killed, ground.study.parallel)
    assert killed.end.answers == ground.uncut.end.answers
    assert worth(killed) == worth(ground.uncut)


def test_little_money_is_not_overspent_by_kills(ground: Ground) -> None:
    luck = random.Random(6)
    spec = ground.study.write(ground.url, 0.05, "little")
    out = ground.study.out("little")
    killed = distil(spec, out, ground.url, lambda: luck.uniform(0, 0.1), most=1, since_asking=True)
    assert not broken(killed, ground.study.parallel)
    assert ground.uncut.end.answers.items() >= killed.end.answers.items()
    assert len(killed.end.answers) < len(ground.uncut.end.answers), "the money was not little"


def test_a_second_process_is_refused_as_the_run_is_busy(ground: Ground) -> None:
    second = open_twice(ground.spec, ground.study.out("twice"))
    assert second.code == 2
    assert "Another process is working in" in second.said
    assert second.first_code == 0


@pytest.mark.parametrize(
    ("by", "code"), [(signal.SIGINT, 130), nightly(signal.SIGTERM, 143), nightly(signal.SIGHUP, 129)]
)
@pytest.mark.slow
def test_on_a_signal_the_calls_in_flight_end_and_nothing_is_lost(ground: Ground, by: signal.Signals, code: int) -> None:
    stopped = interrupt(ground.spec, ground.study.out(f"interrupted by {by.name}"), ground.url, after_s=0.0, by=by)
    assert stopped.code == code
    assert "Nothing is lost" in stopped.said
    assert not stopped.found.held_calls
    assert len(stopped.found.answers) < len(ground.uncut.end.answers)
    assert not broken(stopped.again, ground.study.parallel, stopped.found.held_calls)
    assert stopped.again.bought_twice == 0
    assert stopped.again.end.answers == ground.uncut.end.answers


@pytest.mark.slow
def test_a_full_disk_stops_a_run_and_bought_answers_stay(ground: Ground) -> None:
    stopped = fill_disk(ground.spec, ground.study.out("full"), ground.url, most_bytes=300_000)
    assert stopped.code == 2
    assert "is full or failing" in stopped.said
    assert stopped.found.answers, "it was full before anything was bought"
    assert not broken(stopped.again, ground.study.parallel, stopped.found.held_calls)
    assert stopped.again.end.answers == ground.uncut.end.answers
