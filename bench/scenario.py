# SPDX-License-Identifier: Apache-2.0
"""What a scenario is; scenarios.py has the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.task import Run, Task
from pymigrate.network import Endpoint


class Contender(Protocol):
    """Whoever can do a task."""

    @property
    def name(self) -> str: ...

    def run(self, task: Task, ends: Sequence[Endpoint] = ()) -> Run:
        """Do it once, leaving nothing behind."""
        ...


@dataclass(frozen=True)
class Ratio:
    """A quotient that is taken within each pair.

    :ivar under: a contender, or several of which the best one counts: that
        with the least median, or with the greatest where most is set.
    :ivar says: the ratio in words.
    """

    figure: str
    over: str
    under: tuple[str, ...]
    says: str
    most: bool = False


@dataclass(frozen=True)
class Scenario:
    """One question, one task, and who is asked.

    :ivar says: what the figures show, for readers of the page.
    :ivar pairs: how often everybody runs, unless the command line says.
    :ivar quick_task: the same, small, for --quick; None: left out there.
    """

    name: str
    title: str
    says: str
    task: Task
    contenders: tuple[Contender, ...]
    ratios: tuple[Ratio, ...] = ()
    pairs: int = 5
    quick_task: Task | None = None
