# SPDX-License-Identifier: Apache-2.0
"""`pymigrate simulate`, --trace, and the options of the policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import SMALL, run

from pymigrate.cli import main
from pymigrate.simulation import parse_trace

TRACES = Path(__file__).parent / "traces"
BUSY = str(TRACES / "partial-1gbit.json")
TOO_FAST = str(TRACES / "sweep-above-1gbit.json")


def simulate(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["simulate", *arguments, "--json", "-"])
    return code, json.loads(capsys.readouterr().out)


def test_policies_differ(capsys: pytest.CaptureFixture[str]) -> None:
    code, short = simulate(BUSY, capsys=capsys)
    assert code == 0 and short["schema"] == "pymigrate.simulation/1"
    code, thrifty = simulate(BUSY, "--policy", "minimal-traffic", capsys=capsys)
    assert code == 0 and thrifty["options"]["policy"] == "minimal-traffic"
    assert thrifty["wire_bytes"] < short["wire_bytes"]
    assert short["downtime_ms"] < thrifty["downtime_ms"] <= 300
    assert thrifty["best"]["wire_bytes"] <= thrifty["wire_bytes"]
    assert len(short["rounds"]) > len(thrifty["rounds"])


def test_giving_up_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = simulate(TOO_FAST, capsys=capsys)
    assert code == 3 and found["action"] == "give-up"
    assert "the guest dirties at least" in found["reason"]
    assert found["best"] is None
    code, found = simulate(TOO_FAST, "--throttle", "80", capsys=capsys)
    assert code == 0 and found["action"] == "switch"


def test_it_is_shown_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", TOO_FAST, "--throttle", "80"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "throttle 10%" in out and "~4" in out and "switched after" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([BUSY, "--policy", "time-budget"], "needs --time-budget"),
        ([BUSY, "--policy", "downtime", "--time-budget", "3s"], "takes no --time-budget"),
        ([BUSY, "--throttle", "100"], "neither a percentage from 1 to 99 nor 'off'"),
        ([BUSY, "--downtime-limit-ms", "0"], "above 0"),
        ([BUSY, "--json", "/nonexistent/x"], "does not exist"),
        ([__file__], "is not JSON"),
    ],
)
def test_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["simulate", *arguments])
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 2
    assert words in capsys.readouterr().err


def test_another_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"schema": "pymigrate.check/1"}')
    assert main(["simulate", str(path)]) == 2
    assert "pymigrate.trace/1" in capsys.readouterr().err
    assert main(["simulate", str(tmp_path / "none.json")]) == 1


@pytest.mark.uffd
def test_a_demo_is_recorded_and_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, report = tmp_path / "trace.json", tmp_path / "report.json"
    done = run(
        *("demo", *SMALL, "--policy", "minimal-traffic", "--run-for", "100ms"),
        *("--backend", "threads", "--trace", str(trace), "--json", str(report)),
    )
    assert done.returncode == 0, done.stderr
    written, wanted = json.loads(trace.read_text()), json.loads(report.read_text())
    assert parse_trace(written).rounds == parse_trace(wanted).rounds
    assert written["sealed"]["downtime_ms"] == wanted["downtime"]["total_ms"]
    code, found = simulate(str(trace), "--policy", "minimal-traffic", capsys=capsys)
    assert code == 0
    fuzzy = [done for done in wanted["rounds"] if done["kind"] == "fuzzy"]
    assert [done["decision"] for done in found["rounds"]] == [done["decision"] for done in fuzzy]
    assert found["downtime_ms"] == wanted["downtime"]["total_ms"]
    error_ms = wanted["downtime"]["total_ms"] - wanted["predicted_downtime_ms"]
    assert wanted["prediction_error_ms"] == pytest.approx(error_ms)
