# SPDX-License-Identifier: Apache-2.0
"""Traces: the rounds of a migration as JSON.

::

    {"schema": "pymigrate.trace/1",
     "name": "...",                what it is a trace of, or ""
     "host": {...}, "config": {...}, "tracker": {...},    as in the report
     "costs": {...} or null,       members of SwitchoverCosts
     "rehearsed_rounds": 2,        rounds after which the costs were known
     "rounds": [{...}, ...],       members of RoundMeasurement
     "growth": [[ms, pages], ...], pages dirtied within windows, if sampled
                                   besides the windows of the rounds
     "sealed": {...} or null}      members of Sealed

Members may be added within a schema version; unknown ones are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from pymigrate.errors import MigrateError
from pymigrate.policy import RoundMeasurement, SwitchoverCosts
from pymigrate.report import SCHEMA as REPORT_SCHEMA

__all__ = ["SCHEMA", "Sealed", "Trace", "TraceError", "parse_trace", "trace_of"]

SCHEMA = "pymigrate.trace/1"
MAX_ROUNDS = 10_000

Json = Mapping[str, Any]
T = TypeVar("T")


class TraceError(MigrateError, ValueError):
    """Not a trace, or one that contradicts itself."""


@dataclass(frozen=True)
class Sealed:
    """What came of switching over after the last recorded round.

    :ivar pages: sent while the guest was paused.
    :ivar downtime_ms: measured.
    :ivar predicted_ms: what was predicted for it then.
    """

    pages: int
    downtime_ms: float
    predicted_ms: float


@dataclass(frozen=True)
class Trace:
    """A recorded migration.

    :ivar costs: None where the switchover was not rehearsed.
    :ivar rehearsed_rounds: rounds after which the costs were known.
    :ivar growth: (window_ms, pages) besides those of the rounds.
    """

    rounds: tuple[RoundMeasurement, ...]
    costs: SwitchoverCosts | None = None
    rehearsed_rounds: int = 1
    sealed: Sealed | None = None
    growth: tuple[tuple[float, float], ...] = ()
    name: str = ""
    host: Json = field(default_factory=dict)
    config: Json = field(default_factory=dict)
    tracker: Json = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"schema": SCHEMA, **asdict(self)}


def parse_trace(document: Any) -> Trace:
    """The trace in a JSON document: a trace, or the report of a source.

    :raises TraceError: it is neither.
    """
    schema = document.get("schema") if isinstance(document, Mapping) else None
    if schema == REPORT_SCHEMA:
        return trace_of(document)
    if schema != SCHEMA:
        raise TraceError(f"expected a document of schema {SCHEMA} or {REPORT_SCHEMA}")
    costs, sealed = document.get("costs"), document.get("sealed")
    trace = Trace(
        rounds=tuple(_build(RoundMeasurement, r, "rounds") for r in _rounds(document)),
        costs=_build(SwitchoverCosts, costs, "costs") if costs is not None else None,
        rehearsed_rounds=int(_number(document.get("rehearsed_rounds", 1), "rehearsed_rounds")),
        sealed=_build(Sealed, sealed, "sealed") if sealed is not None else None,
        growth=_growth(document.get("growth", [])),
        name=str(document.get("name", "")),
        host=_object(document, "host"),
        config=_object(document, "config"),
        tracker=_object(document, "tracker"),
    )
    if not trace.rounds:
        raise TraceError("the trace has no rounds")
    return trace


def trace_of(report: Json, name: str = "") -> Trace:
    """The trace in a report; all of its rounds but the sealed ones.

    :param report: as JSON.
    :raises TraceError: no round was finished.
    """
    rounds = [r for r in _rounds(report) if isinstance(r, Mapping)]
    fuzzy = tuple(_build(RoundMeasurement, r, "rounds") for r in rounds if r.get("kind") == "fuzzy")
    if not fuzzy:
        raise TraceError("no round of pre-copy was finished, so there is nothing to replay")
    rehearsal, downtime = report.get("rehearsal"), report.get("downtime")
    sealed = None
    if downtime is not None:
        pages = sum(int(r["sent_pages"]) for r in rounds if r.get("kind") == "sealed")
        predicted_ms = float(report.get("predicted_downtime_ms") or 0.0)
        sealed = Sealed(pages, float(downtime["total_ms"]), predicted_ms)
    return Trace(
        rounds=fuzzy,
        costs=_build(SwitchoverCosts, rehearsal, "rehearsal") if rehearsal else None,
        rehearsed_rounds=_rehearsed_rounds(fuzzy) if rehearsal else 1,
        sealed=sealed,
        name=name,
        host=_object(report, "host"),
        config=_object(report, "config"),
        tracker=_object(report, "tracker"),
    )


def _rehearsed_rounds(rounds: tuple[RoundMeasurement, ...]) -> int:
    """Rounds before the first one with a decision on the switchover."""
    done = 1
    while done < min(3, len(rounds)) and rounds[done].disturbed:
        done += 1
    return done


def _rounds(document: Json) -> list[Any]:
    rounds = document.get("rounds")
    if not isinstance(rounds, (list, tuple)) or len(rounds) > MAX_ROUNDS:
        raise TraceError(f"rounds: expected a list of at most {MAX_ROUNDS:,}")
    return list(rounds)


def _object(document: Json, name: str) -> Json:
    value = document.get(name) or {}
    if not isinstance(value, Mapping):
        raise TraceError(f"{name}: expected an object")
    return value


def _growth(value: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, (list, tuple)):
        raise TraceError("growth: expected a list of pairs")
    pairs = []
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TraceError("growth: expected pairs of a window in ms and pages")
        pairs.append((_number(pair[0], "growth"), _number(pair[1], "growth")))
    return tuple(pairs)


def _build(kind: type[T], value: Any, name: str) -> T:
    """A dataclass of numbers from the members of the same names."""
    if not isinstance(value, Mapping):
        raise TraceError(f"{name}: expected an object")
    found: dict[str, Any] = {}
    for member in fields(kind):  # type: ignore[arg-type]
        if member.name in value:
            found[member.name] = _number(value[member.name], f"{name}: {member.name}")
    try:
        return kind(**found)
    except TypeError as error:
        raise TraceError(f"{name}: a member is missing: {error}") from error


def _number(value: Any, name: str) -> Any:
    """A finite number that is not negative; true and false are 1 and 0."""
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise TraceError(f"{name}: {value!r} is not a number from 0 up")
    return value
