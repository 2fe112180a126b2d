# SPDX-License-Identifier: Apache-2.0
"""U(t): what is fitted to samples of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_models import hot_and_cold, scattered

from pymigrate.policy import Growth, fit_growth

windows = st.floats(1e-3, 1e6)
counts = st.integers(0, 1 << 30)
samples = st.lists(st.tuples(windows, counts), max_size=12)


@given(st.floats(1e2, 1e7), st.floats(1e1, 1e7), st.floats(1, 1e4), st.floats(0.05, 0.7))
def test_two_samples_of_a_scattered_guest_give_its_curve(
    working_set: float, rate: float, window_ms: float, shorter: float
) -> None:
    true = scattered(working_set, rate)
    pair = [(window_ms, true(window_ms)), (window_ms * shorter, true(window_ms * shorter))]
    found = fit_growth(pair)
    # As soon as all of the working set was seen twice, the slope is unknown.
    if pair[1][1] < 0.99 * working_set:
        middle = window_ms * math.sqrt(shorter)
        assert found.pages(middle) == pytest.approx(true(middle), rel=0.01, abs=1e-6)
    assert found.pages(window_ms) == pytest.approx(pair[0][1], rel=0.06)


@given(samples, windows, windows)
def test_it_never_falls_and_is_concave(
    seen: list[tuple[float, int]], one: float, other: float
) -> None:
    growth = fit_growth(seen)
    short, long = min(one, other), max(one, other)
    few, many = growth.pages(short), growth.pages(long)
    assert 0 <= few <= many < math.inf
    assert many <= few * (long / short) * (1 + 1e-9) + 1e-9
    assert growth.pages(0) == growth.pages(-1) == 0


@given(samples.filter(bool))
def test_the_latest_sample_is_believed(seen: list[tuple[float, int]]) -> None:
    window_ms, pages = seen[-1]
    assert fit_growth(seen).pages(window_ms) == pytest.approx(pages, rel=0.06, abs=1e-6)


def test_a_sweep_that_fits_into_the_window_is_saturated() -> None:
    growth = fit_growth([(2000, 16384), (600, 16384)])
    assert growth.ceiling_pages == 16384
    assert growth.pages(600) > 0.94 * 16384


def test_a_guest_that_was_not_seen_to_saturate_is_linear() -> None:
    growth = fit_growth([(1000, 20_000), (100, 2_000)])
    assert growth.ceiling_pages == math.inf
    assert growth.pages(10) == pytest.approx(200)


def test_a_burst_that_is_over_is_forgotten() -> None:
    assert fit_growth([(1000, 50_000), (300, 300)]).pages(100) == pytest.approx(100)


def test_hot_pages_do_not_go_away_with_short_windows() -> None:
    """4096 hot pages stay, however short the round; the line would say 400."""
    true = hot_and_cold(4096, 1 << 18, 50_000)
    growth = fit_growth([(ms, true(ms)) for ms in (2000, 400, 150)])
    assert growth.pages(50) == pytest.approx(true(50), rel=0.35)
    assert growth.pages(50) > 3000


def test_no_samples_mean_no_writes() -> None:
    assert fit_growth([]) == Growth()
    assert fit_growth([(0.0, 7)]).pages(100) == 0


def test_a_sweep_that_saturated_long_windows_is_known_by_the_others() -> None:
    """Measured: 24,400 pages/s through 128 MiB, and a link of 29,000."""
    growth = fit_growth([(4493, 32_771), (1129, 27_566), (952, 23_264)])
    assert growth.sweeps
    assert growth.pages(100) == pytest.approx(2_440, rel=0.01)


def test_a_scattered_guest_is_no_sweep() -> None:
    true = scattered(32_768, 40_000)
    growth = fit_growth([(ms, true(ms)) for ms in (4493, 1129, 952)])
    assert not growth.sweeps
    assert growth.pages(100) == pytest.approx(true(100), rel=0.01)
