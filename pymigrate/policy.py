# SPDX-License-Identifier: Apache-2.0
"""When to switch over: a pure function of what was measured.

Theory of operation: docs/policy.md. In short, the pages pending after a
round are counted exactly, so the downtime of switching *now* can be computed
from the measured bandwidth and the rehearsed fixed costs; and since the rate
at which the guest dirties pages is known, so can what one more round would
gain. No clock, no I/O, no native code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "Action",
    "Decision",
    "Estimate",
    "PolicyOptions",
    "RoundMeasurement",
    "SwitchoverCosts",
    "decide",
    "estimate",
    "final_downtime_ms",
]

PAGE_BYTES = 4096
# A raw page: its bytes, its entry of 16, and its share of a frame's header.
RAW_PAGE_BYTES = PAGE_BYTES + 20
# A round this large measures the link; a smaller one measures latency.
BULK_BYTES = 4 << 20
# Fewer pages than a block say little about the pages to come.
TYPICAL_PAGES = 64


class Action(str, Enum):
    """What to do after a round."""

    CONTINUE = "continue"
    SWITCH = "switch"
    GIVE_UP = "give-up"


@dataclass(frozen=True)
class PolicyOptions:
    """Limits that the decision keeps.

    :ivar downtime_limit_ms: never switch when more is predicted.
    :ivar max_rounds: rounds before the switchover, at most.
    :ivar max_total_ms: no further round is begun after this; None: no limit.
    :ivar stall_rounds: give up when so many rounds brought no improvement.
    :ivar stall_gain: the share of the best prediction that counts as one.
    :ivar settle_ms: below the limit, sending time not worth another round.
    """

    downtime_limit_ms: float = 300.0
    max_rounds: int = 30
    max_total_ms: float | None = None
    stall_rounds: int = 4
    stall_gain: float = 0.05
    settle_ms: float = 1.0


@dataclass(frozen=True)
class RoundMeasurement:
    """One finished round of pre-copy.

    :ivar dirty_pages: pending when it began.
    :ivar sent_pages: described on the wire.
    :ivar wire_bytes: written to all channels.
    :ivar duration_ms: from its harvest to the destination's acknowledgement.
    :ivar harvest_ms: the part of it that gathered dirty bits.
    :ivar pending_pages: dirtied meanwhile: what the next round would send.
    :ivar window_ms: from its harvest until pending_pages was counted.
    :ivar elapsed_ms: since the migration began, when that was.
    :ivar disturbed: a rehearsal ran beside it, so its duration says nothing
        about how long a small round takes.
    """

    dirty_pages: int
    sent_pages: int
    wire_bytes: int
    duration_ms: float
    harvest_ms: float
    pending_pages: int
    window_ms: float
    elapsed_ms: float
    disturbed: bool = False


@dataclass(frozen=True)
class SwitchoverCosts:
    """What a switchover costs besides pages; from the rehearsal.

    :ivar quiesce_ms: until no vCPU runs.
    :ivar capture_ms: save_state() at the source.
    :ivar state_bytes: what travels with the last pages.
    :ivar load_ms: load_state() at the destination.
    :ivar resume_ms: until the vCPUs run again.
    :ivar round_trip_ms: one message and its answer.
    """

    quiesce_ms: float = 0.0
    capture_ms: float = 0.0
    state_bytes: int = 0
    load_ms: float = 0.0
    resume_ms: float = 0.0
    round_trip_ms: float = 0.0

    @property
    def fixed_ms(self) -> float:
        """Everything that depends on neither link nor pages, and COMMIT's trip."""
        return (
            self.quiesce_ms + self.capture_ms + self.load_ms + self.resume_ms + self.round_trip_ms
        )


@dataclass(frozen=True)
class Estimate:
    """What the history says about the link and the guest."""

    bandwidth_bytes_per_s: float
    bytes_per_page: float
    dirty_pages_per_s: float
    harvest_ms: float
    overhead_ms: float
    fixed_ms: float
    state_bytes: int

    def wire_ms(self, size_bytes: float) -> float:
        """Time to get so many bytes across."""
        if self.bandwidth_bytes_per_s <= 0:
            return 0.0
        return 1000.0 * size_bytes / self.bandwidth_bytes_per_s

    def sending_ms(self, pages: float) -> float:
        """Time to get so many pages across."""
        return self.wire_ms(pages * self.bytes_per_page)

    def round_ms(self, pages: float) -> float:
        """Duration of a round of so many pages."""
        return self.harvest_ms + self.overhead_ms + self.sending_ms(pages)


@dataclass(frozen=True)
class Decision:
    """The decision, and the prediction that it rests on.

    :ivar predicted_downtime_ms: of switching now.
    :ivar predicted_total_ms: of the whole migration, if the decision holds.
    """

    action: Action
    predicted_downtime_ms: float
    predicted_total_ms: float
    reason: str


def estimate(history: Sequence[RoundMeasurement], costs: SwitchoverCosts) -> Estimate:
    """Parameters of the model from a non-empty history."""
    last = history[-1]
    bandwidth = _bandwidth(history)
    return Estimate(
        bandwidth_bytes_per_s=bandwidth,
        bytes_per_page=_bytes_per_page(history),
        dirty_pages_per_s=_per_s(last.pending_pages, last.window_ms),
        harvest_ms=last.harvest_ms,
        overhead_ms=_overhead_ms(history, bandwidth, costs),
        fixed_ms=costs.fixed_ms,
        state_bytes=costs.state_bytes,
    )


def final_downtime_ms(model: Estimate, pages: float) -> float:
    """Downtime of switching over with so many pages left.

    The dirty bits are gathered twice while the guest is paused: to count
    what is left, and once more after the state was captured.
    """
    state_ms = model.wire_ms(model.state_bytes)
    return model.fixed_ms + model.harvest_ms + state_ms + model.round_ms(pages)


def decide(
    history: Sequence[RoundMeasurement],
    costs: SwitchoverCosts | None,
    options: PolicyOptions,
) -> Decision:
    """What to do after the rounds so far.

    :param costs: None as long as the switchover was not rehearsed.
    """
    if not history:
        return Decision(Action.CONTINUE, 0.0, 0.0, "nothing was sent yet")
    known = costs or SwitchoverCosts()
    model = estimate(history, known)
    now_ms = _switch_now_ms(history, known, model)
    if costs is None:
        return _continue(history, model, now_ms, "the switchover is not rehearsed yet")
    if now_ms <= options.downtime_limit_ms:
        return _within_limit(history, model, now_ms, options)
    return _above_limit(history, costs, model, now_ms, options)


def _within_limit(
    history: Sequence[RoundMeasurement],
    model: Estimate,
    now_ms: float,
    options: PolicyOptions,
) -> Decision:
    if not _exhausted(history, options) and _worthwhile(history, model, options):
        return _continue(
            history, model, now_ms, f"another round should halve {now_ms:.1f} ms of downtime"
        )
    total_ms = history[-1].elapsed_ms + now_ms
    reason = f"{now_ms:.1f} ms is within the limit of {options.downtime_limit_ms:g} ms"
    return Decision(Action.SWITCH, now_ms, total_ms, reason)


def _above_limit(
    history: Sequence[RoundMeasurement],
    costs: SwitchoverCosts,
    model: Estimate,
    now_ms: float,
    options: PolicyOptions,
) -> Decision:
    limits = _exhausted(history, options)
    if not limits and _stalled(history, costs, options):
        limits = f"no improvement in {options.stall_rounds} rounds"
    if not limits:
        return _continue(
            history,
            model,
            now_ms,
            f"{now_ms:.1f} ms is above the limit of {options.downtime_limit_ms:g} ms",
        )
    reason = f"{limits}: {_figures(history[-1], model)}, and switching now would take " + (
        f"{now_ms:.0f} ms ({model.fixed_ms:.0f} ms of it whatever is sent) "
        f"where the limit is {options.downtime_limit_ms:g} ms"
    )
    return Decision(Action.GIVE_UP, now_ms, history[-1].elapsed_ms, reason)


def _continue(
    history: Sequence[RoundMeasurement], model: Estimate, now_ms: float, reason: str
) -> Decision:
    pending = history[-1].pending_pages
    after_ms = final_downtime_ms(model, _pending_after(pending, model))
    total_ms = history[-1].elapsed_ms + model.round_ms(pending) + after_ms
    return Decision(Action.CONTINUE, now_ms, total_ms, reason)


def _switch_now_ms(
    history: Sequence[RoundMeasurement], costs: SwitchoverCosts, model: Estimate
) -> float:
    """Pending pages, and those the guest dirties until it is quiesced."""
    meanwhile = model.dirty_pages_per_s * costs.quiesce_ms / 1000.0
    return final_downtime_ms(model, history[-1].pending_pages + meanwhile)


def _pending_after(pages: float, model: Estimate) -> float:
    """Pages pending after one more round: a linear bound, and no more than now."""
    return min(pages, model.dirty_pages_per_s * model.round_ms(pages) / 1000.0)


def _worthwhile(
    history: Sequence[RoundMeasurement], model: Estimate, options: PolicyOptions
) -> bool:
    """Is it likely that one more round halves the time to send the rest?"""
    pending = history[-1].pending_pages
    if model.sending_ms(pending) <= options.settle_ms:
        return False
    # A guest whose last round did not shrink will not shrink now.
    if len(history) > 2 and pending > 0.75 * history[-2].pending_pages:
        return False
    return _pending_after(pending, model) <= 0.5 * pending


def _exhausted(history: Sequence[RoundMeasurement], options: PolicyOptions) -> str:
    """Which limit on rounds or time is reached, or nothing."""
    if len(history) >= options.max_rounds:
        return f"{len(history)} rounds were not enough"
    if options.max_total_ms is not None and history[-1].elapsed_ms >= options.max_total_ms:
        return f"{options.max_total_ms:g} ms were not enough"
    return ""


def _stalled(
    history: Sequence[RoundMeasurement], costs: SwitchoverCosts, options: PolicyOptions
) -> bool:
    """Did the last stall_rounds rounds fail to improve on those before?"""
    if len(history) <= options.stall_rounds:
        return False
    predicted = []
    for end in range(1, len(history) + 1):
        past = history[:end]
        predicted.append(_switch_now_ms(past, costs, estimate(past, costs)))
    before = min(predicted[: -options.stall_rounds])
    recent = min(predicted[-options.stall_rounds :])
    return recent > (1.0 - options.stall_gain) * before


def _figures(last: RoundMeasurement, model: Estimate) -> str:
    """Guest and link side by side.

    A page that is written twice within a round is counted once, so the rate
    is a lower bound.
    """
    dirty_mb_per_s = model.dirty_pages_per_s * PAGE_BYTES / 1e6
    link_mb_per_s = model.bandwidth_bytes_per_s / 1e6
    return (
        f"the guest dirties at least {model.dirty_pages_per_s:,.0f} pages/s "
        f"({dirty_mb_per_s:,.0f} MB/s; {last.pending_pages:,} different ones in the last "
        f"{last.window_ms:,.0f} ms), the link carries {link_mb_per_s:,.0f} MB/s"
    )


def _bandwidth(history: Sequence[RoundMeasurement]) -> float:
    """Bytes per second of the latest bulk round, else of the largest."""
    bulk = [r for r in history if r.wire_bytes >= BULK_BYTES]
    chosen = bulk[-1] if bulk else max(history, key=lambda r: r.wire_bytes)
    return _per_s(chosen.wire_bytes, chosen.duration_ms - chosen.harvest_ms)


def _bytes_per_page(history: Sequence[RoundMeasurement]) -> float:
    """Of pages that are sent again; the first round says nothing of those."""
    for measured in reversed(history[1:]):
        if measured.sent_pages >= TYPICAL_PAGES:
            return measured.wire_bytes / measured.sent_pages
    return RAW_PAGE_BYTES


def _overhead_ms(
    history: Sequence[RoundMeasurement], bandwidth: float, costs: SwitchoverCosts
) -> float:
    """What a round costs besides harvest and bytes; small rounds show it."""
    small = [
        max(0.0, r.duration_ms - r.harvest_ms - 1000.0 * r.wire_bytes / bandwidth)
        for r in history[1:]
        if r.wire_bytes < BULK_BYTES and bandwidth > 0 and not r.disturbed
    ]
    return min(small) if small else costs.round_trip_ms


def _per_s(amount: float, duration_ms: float) -> float:
    return 1000.0 * amount / duration_ms if duration_ms > 0 else 0.0
