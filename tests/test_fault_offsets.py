# SPDX-License-Identifier: Apache-2.0
"""Connections end in the middle of whatever they carry."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_case import running_vm, settle, stage_for
from fault_pair import Receiver, migrate, options
from fault_proxy import Proxy, Way
from fault_routes import DESTINATION, Place, Route

from pymigrate.report import Outcome
from pymigrate.states import DestinationState

pytestmark = pytest.mark.uffd

SESSION_WAYS = [
    Way("control"),
    Way("control", up=False),
    Way("data", 0),
    Way("data", 1),
]
QUERY_WAYS = [Way("query"), Way("query", up=False)]
# The first byte, in the middle of a frame's header, and at its end.
EDGES = [1, 20, 40]
SEEDS = range(8)
COMMITTED = Place(DESTINATION, DestinationState.COMMITTED)
ANSWER_LOST = Route({COMMITTED: "cut control"})


@pytest.fixture(scope="module")
def session_bytes() -> Counter[Way]:
    """What a migration that nothing happens to carries on each way."""
    with (
        running_vm() as vm,
        Receiver("tcp:127.0.0.1:0", options()) as receiver,
        Proxy(receiver.address) as proxy,
    ):
        assert migrate(vm, proxy.address, options()).outcome is Outcome.COMPLETED
        return proxy.carried


@pytest.fixture(scope="module")
def query_bytes() -> Counter[Way]:
    """Likewise, of the question after a lost answer to COMMIT."""
    with stage_for(ANSWER_LOST) as (stage, _, _, attempt):
        assert attempt.migrate().outcome is Outcome.COMPLETED
        assert stage.proxy is not None
        return stage.proxy.carried


def cut_after(way: Way, size_bytes: int) -> None:
    with stage_for(Route()) as (stage, vm, receiver, attempt):
        proxy = stage.proxy
        assert proxy is not None
        fired: list[bool] = []

        def cut() -> None:
            fired.append(True)
            proxy.cut(way.role, way.channel)

        proxy.after(way, size_bytes, cut)
        report = attempt.migrate()
        settle(vm, receiver, attempt, report)
        assert fired


def test_connections_end_in_their_first_frame() -> None:
    """The destination never learns of it, so time passes: all at once."""
    with ThreadPoolExecutor(6) as pool:
        cases = {
            (way, size_bytes): pool.submit(cut_after, way, size_bytes)
            for way, size_bytes in itertools.product(SESSION_WAYS, EDGES)
        }
    failures = {case: ended.exception() for case, ended in cases.items()}
    assert not {case: error for case, error in failures.items() if error}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("way", SESSION_WAYS, ids=str)
def test_connection_ends_anywhere(way: Way, seed: int, session_bytes: Counter[Way]) -> None:
    # No two migrations are of the same length: further rounds add some.
    last = int(0.7 * session_bytes[way])
    cut_after(way, random.Random(f"{way}{seed}").randrange(1, last))


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
