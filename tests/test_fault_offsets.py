# SPDX-License-Identifier: Apache-2.0
"""Connections end in the middle of whatever they carry."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import pytest
from fault_case import running_vm, settle, stage_for
from fault_pair import Receiver, migrate, options
from fault_proxy import Proxy, Way
from fault_routes import DESTINATION, Place, Route
from fault_tunings import AUTO, DELTA, LZ4_DELTA, RAW, ZSTD_DELTA, Tuning

from pymigrate.report import Outcome
from pymigrate.states import DestinationState

pytestmark = pytest.mark.uffd

DATA_WAYS = [Way("data", 0), Way("data", 1)]
SESSION_WAYS = [Way("control"), Way("control", up=False), *DATA_WAYS]
QUERY_WAYS = [Way("query"), Way("query", up=False)]
# The first byte, in the middle of a frame's header, and at its end.
EDGES = [1, 20, 40]
SEEDS = range(8)
# By seed, in turn.
TUNINGS = {"raw": RAW, "delta": DELTA, "lz4": LZ4_DELTA, "zstd": ZSTD_DELTA}
COMMITTED = Place(DESTINATION, DestinationState.COMMITTED)
ANSWER_LOST = Route({COMMITTED: "cut control"})


@cache
def session_bytes(name: str) -> Counter[Way]:
    """What a migration that nothing happens to carries on each way."""
    with (
        running_vm() as vm,
        Receiver("tcp:127.0.0.1:0", options()) as receiver,
        Proxy(receiver.address) as proxy,
    ):
        report = migrate(vm, proxy.address, options(**TUNINGS[name]))
        assert report.outcome is Outcome.COMPLETED
        return proxy.carried


@pytest.fixture(scope="module")
def query_bytes() -> Counter[Way]:
    """Likewise, of the question after a lost answer to COMMIT."""
    with stage_for(ANSWER_LOST) as (stage, _, _, attempt):
        assert attempt.migrate().outcome is Outcome.COMPLETED
        assert stage.proxy is not None
        return stage.proxy.carried


def cut_after(ways: Sequence[Way], size_bytes: int, tuning: Tuning) -> None:
    """Cut the connection that is first to have carried so much."""
    with stage_for(Route(options=tuning)) as (stage, vm, receiver, attempt):
        proxy = stage.proxy
        assert proxy is not None
        fired: list[bool] = []

        def cut(way: Way) -> None:
            fired.append(True)
            proxy.cut(way.role, way.channel)

        for way in ways:
            proxy.after(way, size_bytes, partial(cut, way))
        report = attempt.migrate()
        settle(vm, receiver, attempt, report)
        assert fired


def test_connections_end_in_their_first_frame() -> None:
    """The destination never learns of it, so time passes: all at once."""
    with ThreadPoolExecutor(6) as pool:
        cases = {
            (way, size_bytes): pool.submit(cut_after, [way], size_bytes, AUTO)
            for way, size_bytes in itertools.product(SESSION_WAYS, EDGES)
        }
    failures = {case: ended.exception() for case, ended in cases.items()}
    assert not {case: error for case, error in failures.items() if error}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "ways",
    [SESSION_WAYS[:1], SESSION_WAYS[1:2], DATA_WAYS],
    ids=["control-up", "control-down", "data"],
)
def test_connection_ends_anywhere(ways: Sequence[Way], seed: int) -> None:
    name = list(TUNINGS)[seed % len(TUNINGS)]
    carried = session_bytes(name)
    # Which of several carries more is chance, but one has its share. And no
    # two migrations are of the same length: further rounds add some.
    last = int(0.7 * sum(carried[way] for way in ways) / len(ways))
    cut_after(ways, random.Random(f"{ways}{seed}").randrange(1, last), TUNINGS[name])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("way", QUERY_WAYS, ids=str)
def test_question_ends_anywhere(way: Way, seed: int, query_bytes: Counter[Way]) -> None:
    """The destination is there, so asking again must settle it at once."""
    with stage_for(ANSWER_LOST) as (stage, vm, receiver, attempt):
        proxy = stage.proxy
        assert proxy is not None
        size_bytes = random.Random(f"{way}{seed}").randrange(1, query_bytes[way])
        proxy.after(way, size_bytes, lambda: proxy.cut("query"))
        report = attempt.migrate()
        assert report.outcome is Outcome.COMPLETED, report.error
        settle(vm, receiver, attempt, report)
