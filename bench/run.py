# SPDX-License-Identifier: Apache-2.0
"""All benchmarks: ``python -m bench.run``; docs/benchmarks.md explains them."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.micro import NAME, run_micro
from bench.page import build_page, load_results
from bench.results import ResultsError, check_free, document, write
from bench.runner import announce, run_scenario
from bench.scenario import Scenario
from bench.scenarios import all_scenarios, shrunk
from bench.task import MIB, Task

HERE = Path(__file__).resolve().parent


def main() -> int:
    options = _parser().parse_args()
    chosen = _choose(all_scenarios(), options)
    if options.list:
        for scenario in chosen:
            print(f"{scenario.name:20} {scenario.title}")
        print(f"{NAME:20} zero scan, hash, codecs, harvest: pytest-benchmark")
        return 0
    if not chosen and not _micro_chosen(options):
        print("bench: no scenario of that name; --list names them", file=sys.stderr)
        return 2
    if any(not _adjust(scenario, options)[0].contenders for scenario in chosen):
        print(f"bench: no contender of that name; there are {_names(chosen)}", file=sys.stderr)
        return 2
    names = [scenario.name for scenario in chosen] + [NAME] * _micro_chosen(options)
    if options.page:
        _write_page(options.results)
        return 0
    try:
        for name in names:
            check_free(_path(options, name), options.force or options.discard)
        return _run(chosen, options)
    except ResultsError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the scenarios and stop")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="these scenarios, with * and ?; repeatable"
    )
    parser.add_argument(
        "--contenders", action="append", metavar="NAME", help="only these, with *; repeatable"
    )
    parser.add_argument("--pairs", type=int, metavar="N", help="how often everybody runs")
    parser.add_argument("--quick", action="store_true", help="small guests, once each")
    parser.add_argument("--discard", action="store_true", help="only print, keep no results")
    parser.add_argument(
        "--backing",
        choices=("thp", "memfd", "hugetlbfs"),
        help="what guest memory is made of, for everybody",
    )
    parser.add_argument("--memory-mib", type=int, metavar="MIB", help="another size of the guest")
    parser.add_argument(
        "--results", type=Path, default=HERE / "results", metavar="DIR", help="where results go"
    )
    parser.add_argument("--page", action="store_true", help="only make the page from results")
    parser.add_argument("--force", action="store_true", help="overwrite results")
    return parser


def _choose(scenarios: list[Scenario], options: argparse.Namespace) -> list[Scenario]:
    if options.only:
        scenarios = [
            scenario
            for scenario in scenarios
            if any(fnmatch.fnmatch(scenario.name, pattern) for pattern in options.only)
        ]
    return [s for s in scenarios if not options.quick or s.quick_task is not None]


def _micro_chosen(options: argparse.Namespace) -> bool:
    return any(fnmatch.fnmatch(NAME, pattern) for pattern in options.only or ["*"])


def _path(options: argparse.Namespace, name: str) -> Path:
    results: Path = options.results
    return results / f"{name}.json"


def _run(chosen: list[Scenario], options: argparse.Namespace) -> int:
    begin = time.monotonic()
    failed = 0
    for number, scenario in enumerate(chosen, 1):
        announce(scenario, number, len(chosen), begin)
        adjusted, task = _adjust(scenario, options)
        pairs = options.pairs or (1 if options.quick else scenario.pairs)
        runs = run_scenario(adjusted, task, pairs)
        data = document(adjusted, task, runs)
        for ratio in data["ratios"]:
            _show_ratio(ratio)
        failed += sum(run.outcome == "failed" for made in runs.values() for run in made)
        if not options.discard:
            write(_path(options, scenario.name), data)
    if _micro_chosen(options):
        print("\nmicro-benchmarks", flush=True)
        keep = None if options.discard else _path(options, NAME)
        failed += not run_micro(keep, options.quick)
    if not options.discard:
        _write_page(options.results)
    print(f"\ndone after {time.monotonic() - begin:.0f} s, {failed} runs failed")
    return 1 if failed else 0


def _write_page(folder: Path) -> None:
    """From all results that are there, new and old."""
    page = folder / "index.html"
    page.write_text(build_page(*load_results(folder)))
    print(f"\nthe page is {page}")


def _names(chosen: list[Scenario]) -> str:
    """Of everybody in these scenarios, once each."""
    return ", ".join({c.name: None for scenario in chosen for c in scenario.contenders})


def _adjust(scenario: Scenario, options: argparse.Namespace) -> tuple[Scenario, Task]:
    """The scenario as the command line wants it."""
    task = scenario.quick_task if options.quick and scenario.quick_task else scenario.task
    if options.memory_mib:
        task = shrunk(task, options.memory_mib * MIB)
    if options.backing:
        task = replace(task, backing=options.backing)
    contenders = tuple(
        contender
        for contender in scenario.contenders
        if any(fnmatch.fnmatch(contender.name, name) for name in options.contenders or ["*"])
    )
    title = scenario.title
    if task.memory_bytes != scenario.task.memory_bytes:
        title += f" (shrunk to {task.memory_bytes // MIB} MiB)"
    return replace(scenario, contenders=contenders, title=title), task


def _show_ratio(ratio: dict[str, Any]) -> None:
    found = ratio["summary"]
    if found is None:
        return
    print(
        f"  = {found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f})  {ratio['says']}"
        f" [{ratio['under']}]"
    )


if __name__ == "__main__":
    sys.exit(main())
