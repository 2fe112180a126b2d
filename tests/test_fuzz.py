# SPDX-License-Identifier: Apache-2.0
"""A coverage-guided search for streams that harm the receiver.

libFuzzer begins with streams of the builder, right and wrong ones, and looks
for others that reach further. A short run in the suite; a long one is

    make -C csrc fuzz && csrc/build-fuzz/fuzz_receiver DIRECTORY
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
import stream_late
from encoding_cases import REGIONS, good_cases
from encoding_lies import bad_cases
from stream_builder import encode
from stream_history import frames_of, random_history

ROOT = Path(__file__).resolve().parent.parent
RUN_S = 8
HISTORIES = range(20)


def build() -> Path:
    if shutil.which("clang") is None:
        pytest.skip("clang, which has libFuzzer, is not installed")
    command = ["make", "-s", "-j2", "-C", str(ROOT / "csrc"), "fuzz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "libclang_rt.fuzzer" in done.stderr:
        pytest.skip("clang is here without libFuzzer (compiler-rt)")
    assert done.returncode == 0, done.stderr
    return ROOT / "csrc" / "build-fuzz" / "fuzz_receiver"


def seeds() -> list[bytes]:
    right = good_cases() | stream_late.good_cases()
    wrong = bad_cases() | stream_late.bad_cases()
    built = [case.data for case in (*right.values(), *wrong.values())]
    return built + [encode(frames_of(random_history(REGIONS, seed))) for seed in HISTORIES]


@pytest.mark.timeout(600)
def test_receiver_survives_a_search(tmp_path: Path) -> None:
    program, corpus = build(), tmp_path / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [f"-max_total_time={RUN_S}", "-seed=1", "-timeout=30", "-max_len=300000"]
    done = subprocess.run(
        [program, *options, f"-artifact_prefix={tmp_path}/", corpus],
        capture_output=True,
        text=True,
        check=False,
    )
    found = "".join(
        f"\nzlib, base64: {base64.b64encode(zlib.compress(path.read_bytes())).decode()}"
        for pattern in ("crash-*", "timeout-*", "oom-*", "leak-*")
        for path in tmp_path.glob(pattern)
    )
    assert done.returncode == 0, done.stderr[-6000:] + found
