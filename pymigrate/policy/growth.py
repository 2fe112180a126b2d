# SPDX-License-Identifier: Apache-2.0
"""U(t): how many different pages a guest dirties within a window t.

Theory of operation. Every page of the writable working set (Clark et al.,
"Live Migration of Virtual Machines", NSDI 2005) is written again and again.
The number of *different* pages written within t grows as r*t while t is
short, and cannot exceed the working set W: U is concave and saturates. For
pages written at random times it is

    U(t) = W * (1 - exp(-r*t/W))

and for pages written one after the other, round and round,

    U(t) = min(W, r*t)

Two samples with windows of different lengths determine r and W of the first,
and every round of pre-copy is a sample: the pages pending after it, and how
long it took. Rounds get shorter, so what is to be predicted is a window near
or below the latest one: the latest sample and the last one of a clearly
different length are what the curve goes through; older ones are another
phase of the guest. Where the two contradict a concave curve the latest one
is believed. Which of the two shapes it is makes all the difference below the
shortest window: a guest that sweeps at less than the rate of the link
converges, one that scatters may not. So other recent samples decide: the
shape that they lie nearer to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Growth", "fit_growth"]

# Windows that differ by less than this factor are the same sample twice.
DIFFERENT = 1.3
# A window in which all of the working set was seen: 1 - exp(-3) is 95 %.
SATURATED = 3.0
# Below this exponent the curve is a straight line, to one part in 10^4.
STRAIGHT = 1e-4
# Samples that have a say in the shape; older ones are another phase.
RECENT = 5
# Samples that all lie nearer to the curve than this say nothing against it.
NOTICED = 0.05


@dataclass(frozen=True)
class Growth:
    """U(t).

    :ivar pages_per_s: slope at t = 0.
    :ivar ceiling_pages: the writable working set; inf while no saturation
        has been seen.
    :ivar sweeps: pages are written one after the other, so that U is
        straight up to the ceiling.
    """

    pages_per_s: float = 0.0
    ceiling_pages: float = math.inf
    sweeps: bool = False

    def pages(self, window_ms: float) -> float:
        """Different pages dirtied within a window."""
        linear = self.pages_per_s * max(window_ms, 0.0) / 1000.0
        if linear <= 0 or self.ceiling_pages <= 0:
            return 0.0
        if math.isinf(self.ceiling_pages) or self.sweeps:
            return min(linear, self.ceiling_pages)
        return self.ceiling_pages * -math.expm1(-linear / self.ceiling_pages)


def fit_growth(samples: Sequence[tuple[float, float]]) -> Growth:
    """The curve through the latest sample, in the shape that suits the others.

    :param samples: (window_ms, pages), the latest last.
    """
    usable = [(t, u) for t, u in samples if t > 0 and u >= 0]
    scattering = _scattering(usable)
    if math.isinf(scattering.ceiling_pages):
        return scattering
    window_ms, pages = usable[-1]
    recent = usable[-RECENT:]
    ceiling = max(u for _, u in recent)
    if pages >= (1 - NOTICED) * ceiling:
        # The latest window was long enough to see all: how fast is not known.
        return scattering
    sweeping = Growth(1000.0 * pages / window_ms, ceiling, sweeps=True)
    misfit = _misfit(scattering, recent)
    clearly = misfit > NOTICED**2 and _misfit(sweeping, recent) < misfit / 4
    return sweeping if clearly else scattering


def _misfit(growth: Growth, samples: Sequence[tuple[float, float]]) -> float:
    """Sum of the squared errors, each relative to its sample."""
    return sum((growth.pages(t) / u - 1.0) ** 2 for t, u in samples if u > 0)


def _scattering(usable: Sequence[tuple[float, float]]) -> Growth:
    """The curve through the latest sample and the last one that differs."""
    if not usable:
        return Growth()
    latest = usable[-1]
    straight = Growth(1000.0 * latest[1] / latest[0])
    other = _other(usable)
    if other is None or latest[1] <= 0 or other[1] <= 0:
        return straight
    (t_a, u_a), (t_b, u_b) = sorted((latest, other))
    if u_a >= u_b:
        return Growth(1000.0 * SATURATED * latest[1] / t_a, latest[1])
    x = _exponent(t_b / t_a, u_b / u_a)
    if x <= STRAIGHT:
        return straight
    ceiling = u_a / -math.expm1(-x)
    return Growth(1000.0 * x * ceiling / t_a, ceiling)


def _other(samples: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The last sample whose window is clearly shorter or longer."""
    window_ms = samples[-1][0]
    for sample in reversed(samples[:-1]):
        if not 1 / DIFFERENT < sample[0] / window_ms < DIFFERENT:
            return sample
    return None


def _exponent(longer: float, more: float) -> float:
    """x with (1 - exp(-longer*x)) / (1 - exp(-x)) = more; 0: a straight line.

    The quotient falls from `longer` (x = 0) to 1, so bisection finds it.
    """
    if more >= longer:
        return 0.0
    low, high = 0.0, 50.0
    for _ in range(40):
        x = (low + high) / 2
        if math.expm1(-longer * x) / math.expm1(-x) > more:
            low = x
        else:
            high = x
    return (low + high) / 2
