# SPDX-License-Identifier: Apache-2.0
"""A guest that goes ahead of its pages, with a proxy that can break the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from fault_pair import (
    LIMIT_S,
    MIB,
    Attempt,
    Receiver,
    build,
    check_intact,
    options,
    run_on,
    small,
)
from fault_proxy import Proxy

from pymigrate import Options, Report
from pymigrate.policy import PolicyOptions, PostCopy
from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.states import DestinationState, SourceState, State
from pymigrate.vmm import Content, Guest, Vm, VmConfig

# What a test breaks is noticed soon, and mended soon.
SHORT: dict[str, Any] = {
    "verify": False,
    "recover_timeout_ms": 20_000,
}


def late_options(mode: PostCopy = PostCopy.NOW, **changes: Any) -> Options:
    """Limits as everywhere, and a guest that leaves pages behind."""
    policy = PolicyOptions(downtime_limit_ms=3000, post_copy=mode)
    return options(**{**SHORT, "policy": policy, **changes})


def roaming(**changes: Any) -> VmConfig:
    """A machine that touches all of its working set, at random."""
    base: dict[str, Any] = {
        "memory_bytes": 32 * MIB,
        "guest": Guest.RANDOM,
        "working_set_bytes": 8 * MIB,
        "content": Content.RANDOM,
    }
    return small(**{**base, **changes})


@dataclass
class Watch:
    """The states that both sides went through, to be waited for.

    States of the two sides are equal where their words are.
    """

    seen: list[State] = field(default_factory=list)
    acts: list[tuple[State, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._condition = threading.Condition()

    def __call__(self, state: State) -> None:
        with self._condition:
            self.seen.append(state)
            self._condition.notify_all()
            due = [entry for entry in self.acts if entry[0] is state]
            self.acts = [entry for entry in self.acts if entry[0] is not state]
        for _, act in due:
            act()

    def at(self, state: State, act: Callable[[], None]) -> None:
        """Do something when that state is entered next."""
        self.acts.append((state, act))

    def count(self, state: State) -> int:
        return sum(seen is state for seen in self.seen)

    def wait(self, state: State, times: int = 1) -> None:
        """Until that state was entered so many times."""
        with self._condition:
            found = self._condition.wait_for(lambda: self.count(state) >= times, LIMIT_S)
        assert found, f"no {state.value} in {[s.value for s in self.seen]}"


class Trip:
    """One migration on a thread of its own, and both ends of it."""

    def __init__(
        self,
        vm: Vm,
        receiver: Receiver,
        proxy: Proxy,
        settings: Options,
        watch: Watch,
        machines: list[Vm],
        target: str,
    ) -> None:
        self.vm, self.receiver, self.proxy, self.watch = vm, receiver, proxy, watch
        self._machines = machines
        self.attempt = Attempt(vm, target, replace(settings, on_state=watch))
        self.report: Report | None = None
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="test-trip", daemon=True)

    def _run(self) -> None:
        try:
            self.report = self.attempt.migrate()
        except BaseException as error:
            self._errors.append(error)

    def start(self) -> Trip:
        self._thread.start()
        return self

    def join(self) -> Report:
        """The source's report."""
        self._thread.join(2 * LIMIT_S)
        assert not self._thread.is_alive(), f"it hangs in {self.attempt.source.state}"
        if self._errors:
            raise self._errors[0]
        assert self.report is not None
        return self.report

    @property
    def machine(self) -> Vm:
        """At the destination."""
        (machine,) = self._machines
        return machine

    def follow(self) -> None:
        """Until the guest runs there and pages follow it."""
        self.watch.wait(SourceState.POSTCOPY)
        self.watch.wait(DestinationState.POSTCOPY)

    def check(self, report: Report) -> Vm:
        """All pages came, each of them once, and the guest runs there only."""
        assert report.outcome is Outcome.COMPLETED, report.error
        assert report.guest is Owner.DESTINATION
        assert report.late is not None
        assert report.late.missing_pages == 0
        self.receiver.join()
        assert self.receiver.report is not None
        assert self.receiver.report.outcome is Outcome.COMPLETED, self.receiver.report.error
        assert not self.vm.status().running
        machine = self.receiver.take()
        assert machine is not None
        stood = self.vm.heartbeats()
        check_intact(machine)
        assert self.vm.heartbeats() == stood
        return machine


@contextmanager
def trip(
    config: VmConfig | None = None,
    settings: Options | None = None,
    rate_bytes_per_s: int | None = None,
    direct: bool = False,
    build: Callable[[dict[str, Any]], Vm] = build,
    **there: Any,
) -> Iterator[Trip]:
    """A running guest and a destination, not started yet.

    :param rate_bytes_per_s: of what goes to the destination.
    :param direct: past the proxy, which needs the interpreter.
    :param build: the destination's machine, from its description.
    :param there: options that differ at the destination.
    """
    settings = settings or late_options()
    watch = Watch()
    machines: list[Vm] = []

    def factory(description: dict[str, Any]) -> Vm:
        machines.append(build(description))
        return machines[-1]

    with Vm(config or roaming(), populate=True) as vm:
        vm.resume()
        run_on(vm, 1)
        with (
            Receiver(
                "tcp:127.0.0.1:0", replace(settings, on_state=watch, **there), factory
            ) as receiver,
            Proxy(receiver.address, rate_bytes_per_s) as proxy,
        ):
            target = receiver.address if direct else proxy.address
            made = Trip(vm, receiver, proxy, settings, watch, machines, target)
            with made.attempt.source:
                yield made
