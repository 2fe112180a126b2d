# SPDX-License-Identifier: Apache-2.0
"""Record the corpus of tests/traces: real guests, more rounds than needed.

    .venv/bin/python scripts/record_traces.py [NAME ...]

Each trace is a migration of the reference VMM's guest to a `pymigrate recv`
in another process, over loopback or a shaped link between two network
namespaces (which needs root). Its policy goes on for many rounds whatever it
would have decided, so that a replay knows what came of stopping earlier or
later. Existing traces of the same name are replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pymigrate.cli.processes import Inbox, Process
from pymigrate.network import enter_namespace, shaped_link
from pymigrate.options import Options
from pymigrate.policy import (
    Action,
    Decision,
    PolicyOptions,
    RoundMeasurement,
    SwitchoverCosts,
    decide,
)
from pymigrate.simulation import trace_of
from pymigrate.source import Source
from pymigrate.tuning import Choice, Compression
from pymigrate.vmm import Vm, VmConfig

TRACES = Path(__file__).resolve().parent.parent / "tests" / "traces"
MIB = 1 << 20
MBIT, GBIT = 10**6, 10**9
ROUNDS = 12
# Enough rounds for a slow link, without waiting for all of them.
ENOUGH_MS = 20_000
WARM_UP_READS = 20
ANY_DOWNTIME_MS = 1e6

# name: link in bits per second (0: loopback), and the guest. Pages travel
# raw, so that rates are those of the name; unless it begins with "small-".
GUESTS: dict[str, tuple[int, dict[str, Any]]] = {
    "idle-loopback": (0, {"guest": "idle", "working_set_bytes": 0}),
    "idle-zero-1gbit": (GBIT, {"guest": "idle", "working_set_bytes": 0, "content": "zero"}),
    "sweep-slow-loopback": (0, {"working_set_bytes": 64 * MIB, "dirty_rate_pages_per_s": 20_000}),
    "sweep-fast-loopback": (0, {"working_set_bytes": 32 * MIB, "dirty_rate_pages_per_s": None}),
    "sweep-below-1gbit": (
        GBIT,
        {"working_set_bytes": 128 * MIB, "dirty_rate_pages_per_s": 10_000},
    ),
    "sweep-near-1gbit": (GBIT, {"working_set_bytes": 128 * MIB, "dirty_rate_pages_per_s": 23_000}),
    "sweep-above-1gbit": (GBIT, {"working_set_bytes": 128 * MIB, "dirty_rate_pages_per_s": None}),
    "sweep-small-1gbit": (GBIT, {"working_set_bytes": 16 * MIB, "dirty_rate_pages_per_s": None}),
    "random-below-1gbit": (
        GBIT,
        {"guest": "random", "working_set_bytes": 64 * MIB, "dirty_rate_pages_per_s": 15_000},
    ),
    "random-above-1gbit": (
        GBIT,
        {"guest": "random", "working_set_bytes": 64 * MIB, "dirty_rate_pages_per_s": None},
    ),
    "random-fast-loopback": (
        0,
        {
            "guest": "random",
            "working_set_bytes": 128 * MIB,
            "dirty_rate_pages_per_s": None,
            "vcpus": 2,
        },
    ),
    "partial-loopback": (
        0,
        {"guest": "partial", "working_set_bytes": 128 * MIB, "dirty_rate_pages_per_s": None},
    ),
    "partial-1gbit": (
        GBIT,
        {
            "guest": "partial",
            "working_set_bytes": 64 * MIB,
            "dirty_rate_pages_per_s": 20_000,
            "write_bytes": 8,
        },
    ),
    "partial-fast-1gbit": (
        GBIT,
        {
            "guest": "partial",
            "working_set_bytes": 128 * MIB,
            "dirty_rate_pages_per_s": None,
            "write_bytes": 8,
        },
    ),
    "read-mostly-1gbit": (
        GBIT,
        {"guest": "read", "working_set_bytes": 64 * MIB, "dirty_rate_pages_per_s": None},
    ),
    "text-1gbit": (
        GBIT,
        {"content": "text", "working_set_bytes": 64 * MIB, "dirty_rate_pages_per_s": 20_000},
    ),
    "mixed-10gbit": (
        10 * GBIT,
        {"content": "mixed", "working_set_bytes": 128 * MIB, "dirty_rate_pages_per_s": 150_000},
    ),
    "small-delta-loopback": (
        0,
        {"guest": "partial", "working_set_bytes": 128 * MIB, "dirty_rate_pages_per_s": None},
    ),
    "small-delta-1gbit": (
        GBIT,
        {
            "guest": "partial",
            "working_set_bytes": 128 * MIB,
            "dirty_rate_pages_per_s": None,
            "write_bytes": 8,
        },
    ),
    "small-full-1gbit": (
        GBIT,
        {
            "guest": "partial",
            "working_set_bytes": 128 * MIB,
            "dirty_rate_pages_per_s": 22_000,
            "write_bytes": 4032,
        },
    ),
    "small-random-1gbit": (
        GBIT,
        {"guest": "random", "working_set_bytes": 128 * MIB, "dirty_rate_pages_per_s": None},
    ),
    "small-text-100mbit": (
        100 * MBIT,
        {
            "memory_bytes": 64 * MIB,
            "content": "text",
            "working_set_bytes": 32 * MIB,
            "dirty_rate_pages_per_s": 3_000,
        },
    ),
    "small-mixed-10gbit": (
        10 * GBIT,
        {
            "guest": "partial",
            "content": "mixed",
            "working_set_bytes": 128 * MIB,
            "dirty_rate_pages_per_s": None,
        },
    ),
    "sweep-100mbit": (
        100 * MBIT,
        {"memory_bytes": 64 * MIB, "working_set_bytes": 16 * MIB, "dirty_rate_pages_per_s": 1_500},
    ),
}


def go_on(
    history: Sequence[RoundMeasurement],
    costs: SwitchoverCosts | None,
    options: PolicyOptions,
) -> Decision:
    """Many rounds, with the predictions of the built-in policy."""
    lenient = PolicyOptions(downtime_limit_ms=ANY_DOWNTIME_MS, max_rounds=1000)
    decision = decide(history, costs, lenient)
    enough = len(history) >= ROUNDS or (history and history[-1].elapsed_ms > ENOUGH_MS)
    action = Action.SWITCH if costs is not None and enough else Action.CONTINUE
    return replace(decision, action=action)


def record(name: str) -> None:
    """Migrate once, and write the trace."""
    link, guest = GUESTS[name]
    inbox = Inbox()
    with contextlib.ExitStack() as stack:
        ends = stack.enter_context(shaped_link(link)) if link else ()
        listen = ends[1].address if ends else "127.0.0.1"
        fd = ends[1].namespace.fd if ends else -1
        stack.enter_context(Process("the destination", ["recv", f"tcp:{listen}:0"], inbox, fd))
        while "address" not in (event := inbox.get()[1]):
            if event["event"] == "gone":
                raise RuntimeError("the destination does not start")
        if ends:
            enter_namespace(ends[0].namespace.fd)
        config = VmConfig(**{"memory_bytes": 256 * MIB, **guest})
        report = migrate(config, event["address"], raw=not name.startswith("small-"))
    tuning = report["config"]["tuning"]
    report["config"] = {**config.to_json(), "link_bits_per_s": link, "tuning": tuning}
    if report["error"]:
        raise RuntimeError(f"{name}: {report['error']}")
    text = json.dumps(rounded(trace_of(report, name).to_dict()), indent=1)
    (TRACES / f"{name}.json").write_text(text + "\n")


def migrate(config: VmConfig, address: str, raw: bool) -> dict[str, Any]:
    tuning: dict[str, Any] = {}
    if raw:
        tuning = {"compression": Compression.NONE, "delta": Choice.OFF}
    policy = PolicyOptions(policy=go_on, downtime_limit_ms=ANY_DOWNTIME_MS)
    with Vm(config, populate=True) as vm:
        vm.resume()
        vm.wait_device_reads(WARM_UP_READS * config.vcpus, 60_000)
        with Source(vm, address, Options(policy=policy, **tuning)) as source:
            return source.migrate().to_dict()


def rounded(value: Any) -> Any:
    """Microseconds are enough."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", metavar="NAME", nargs="*", help=", ".join(GUESTS))
    names = parser.parse_args().names or list(GUESTS)
    TRACES.mkdir(exist_ok=True)
    failed = []
    for name in names:
        # A process of its own: it enters a namespace for good.
        child = multiprocessing.get_context("spawn").Process(target=record, args=(name,))
        child.start()
        child.join()
        print(name, "failed" if child.exitcode else "done", flush=True)
        failed += [name] if child.exitcode else []
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
