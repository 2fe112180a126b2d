# SPDX-License-Identifier: Apache-2.0
"""The page as a whole: head, summary, one card for each scenario, micro-benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bench.page.bars import bars, panels
from bench.page.micro import micro_table
from bench.page.rounds import dirty_and_sent, growth, left_over_time
from bench.page.table import guest_table
from bench.page.waterfall import downtime
from pymigrate.page.document import document
from pymigrate.page.svg import number

SCHEMA = "pymigrate.bench/2"
MICRO_SCHEMA = "pymigrate.bench.micro/1"
# Figures of docs/encodings.md, which no picture is made of.
CODECS_SCHEMA = "pymigrate.codecs/1"
_GROUPS = (
    ("Bulk", ("bulk-",)),
    ("Guests that write", ("sparse-", "rewrite-", "full-pages-", "whole-pages-", "link-")),
    ("Contents that can be made smaller", ("text-", "executable-", "pointers-")),
    ("Growth", ("growth-", "channels-")),
)
_BARS = (
    "Bars are medians, whiskers reach from the least to the most; numbers are the medians. Shorter"
    " is better, but for throughput."
)


def load_results(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Scenarios by name, and the micro-benchmarks.

    :raises ValueError: a file is not a result.
    """
    results, micro = [], None
    for path in sorted(folder.glob("*.json")):
        data = json.loads(path.read_text())
        if data.get("schema") == SCHEMA:
            results.append(data)
        elif data.get("schema") == MICRO_SCHEMA:
            micro = data
        elif data.get("schema") != CODECS_SCHEMA:
            raise ValueError(f"{path} is not a result of these benchmarks")
    return results, micro


def build_page(results: Sequence[dict[str, Any]], micro: dict[str, Any] | None) -> str:
    """The HTML of everything that is there."""
    results = sorted(results, key=lambda result: _place(result["name"]))
    style = (Path(__file__).parent / "style.css").read_text()
    body = [_head(results), _summary(results)]
    for title, prefixes in _GROUPS:
        members = [r for r in results if r["name"].startswith(prefixes)]
        if members:
            body.append(f"<h2>{escape(title)}</h2>")
            body += _trends(members) + [_card(result) for result in members]
    if micro:
        body.append(micro_table(micro))
    return document("pymigrate benchmarks", "".join(body), style)


def _place(name: str) -> tuple[int, int, int, str]:
    """By group, by kind within it, by the number that the kind differs in, by name."""
    for group, (_, prefixes) in enumerate(_GROUPS):
        for kind, prefix in enumerate(prefixes):
            if name.startswith(prefix):
                return group, kind, _number_in(name), name
    return len(_GROUPS), 0, 0, name


def _number_in(name: str) -> int:
    """Of the last word: 16 of growth-16g."""
    return int("".join(c for c in name.split("-")[-1] if c.isdigit()) or 0)


def _head(results: Sequence[dict[str, Any]]) -> str:
    intro = (
        "<h1>pymigrate benchmarks</h1>"
        '<p class="soft">Live migration of the same guest memory with the same writes, by'
        " pymigrate, by QEMU, and by what merely moves bytes. Both sides run on one machine.</p>"
    )
    if not results:
        return intro + "<p>There are no results yet.</p>"
    latest = max(results, key=lambda result: str(result["facts"]["date"]))["facts"]
    loads = [result["facts"]["load_average"] for result in results]
    rows = {
        "Processor": f"{latest['cpu']}, {latest['cpus']} usable"
        + (" (a virtual machine itself)" if latest["virtualized"] else ""),
        "Memory": f"{latest['memory_bytes'] / (1 << 30):.0f} GiB",
        "Kernel": latest["kernel"],
        "KVM": _kvm_words(latest["kvm"]),
        "QEMU": latest.get("qemu", "unknown"),
        "Huge pages": latest["transparent_hugepages"],
        "Version": latest["commit"],
        "Date": latest["date"],
        "Load at the start": f"{min(loads):.1f} to {max(loads):.1f}",
    }
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in rows.items())
    return f"{intro}<dl>{facts}</dl>"


def _kvm_words(kvm: str | None) -> str:
    if kvm == "kvm_pvm":
        return "kvm_pvm: guests are interpreted, by pymigrate's VMM and by QEMU alike"
    return kvm or "none"


def _summary(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    for result in results:
        for ratio in result["ratios"]:
            found = ratio["summary"]
            if found is None:
                continue
            middle = number(found["median"])
            spread = f"{number(found['min'])} to {number(found['max'])}"
            rows.append(
                f'<tr><td><a href="#{escape(result["name"])}">{escape(result["title"])}</a></td>'
                f"<td>{escape(ratio['says'])} ({escape(ratio['under'])})</td>"
                f'<td class="n"><b>{middle}</b></td><td class="n">{spread}</td></tr>'
            )
    if not rows:
        return ""
    head = (
        '<tr><th>Scenario</th><th>Ratio</th><th class="n">Median</th><th class="n">Range</th></tr>'
    )
    return (
        "<h2>Ratios</h2><p>Every ratio is taken within a turn, in which all contenders ran one"
        " after the other. Below 1 is less time, fewer bytes or less CPU time than the other.</p>"
        f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'
    )


def _card(result: dict[str, Any]) -> str:
    ours = [c["name"] for c in result["contenders"] if c["kind"] == "Ours"]
    parts = [
        f'<article id="{escape(result["name"])}"><h3>{escape(result["title"])}</h3>',
        _badges(result),
        f"<p>{escape(result['says'])}</p>",
        _ratios(result["ratios"]),
        bars(result, panels(result), _BARS),
    ]
    if result["task"]["dirtying"] != "idle":
        parts += [guest_table(result), left_over_time(result)]
        parts += [dirty_and_sent(result, name) for name in ours[:1]]
    parts += [downtime(result, name) for name in ours[:1]]
    facts = result["facts"]
    made = f"<code>{escape(facts['command'])}</code>, {escape(facts['date'])}"
    return "".join(parts) + f'<p class="soft made">{made}</p></article>'


def _badges(result: dict[str, Any]) -> str:
    task, facts = result["task"], result["facts"]
    link = task["link_bits_per_s"]
    words = [f"{link / 1e9:g} Gbit/s between two namespaces" if link else "loopback"]
    words.append(
        {"thp": "transparent huge pages", "memfd": "shared memory, 4 KiB pages"}.get(
            task["backing"], task["backing"]
        )
    )
    words.append(f"{task['memory_bytes'] / (1 << 20):,.0f} MiB of guest memory")
    turns = max(len(runs) for runs in result["runs"].values())
    words.append(f"{turns} {'turns' if turns > 1 else 'turn'}")
    warnings = []
    if facts["kvm"] == "kvm_pvm":
        warnings.append("interpreted guest")
    if facts["virtualized"]:
        warnings.append("in a virtual machine")
    spans = [f"<span>{escape(word)}</span>" for word in words]
    spans += [f'<span class="warn">{escape(word)}</span>' for word in warnings]
    return f'<div class="badges">{"".join(spans)}</div>'


def _ratios(ratios: Iterable[dict[str, Any]]) -> str:
    rows = []
    for ratio in ratios:
        found = ratio["summary"]
        if found:
            spread = f"{number(found['min'])} to {number(found['max'])}, n = {found['n']}"
            rows.append(
                f"<li><b>{number(found['median'])}</b>{escape(ratio['says'])},"
                f' {escape(ratio["under"])} <span class="soft">({spread})</span></li>'
            )
    return f'<ul class="ratios">{"".join(rows)}</ul>' if rows else ""


def _trends(members: Sequence[dict[str, Any]]) -> list[str]:
    """One picture for a family that differs in one number."""
    found = []
    for prefix, label, caption in (
        (
            "growth-",
            "GiB of guest memory",
            "Time over the size of a guest that uses a quarter of it.",
        ),
        ("channels-", "connections", "Time to move 1 GiB of random bytes over more connections."),
    ):
        family = [r for r in members if r["name"].startswith(prefix)]
        values = [float(_number_in(r["name"])) for r in family]
        if len(family) > 1:
            found.append(f"<article>{growth(family, label, values, caption)}</article>")
    return found
