# SPDX-License-Identifier: Apache-2.0
"""Options of a migration; every wait has its limit here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pymigrate._engine import TrackerKind
from pymigrate.policy import PolicyOptions
from pymigrate.report import RoundReport
from pymigrate.states import State

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """Options of either side; each side reads what concerns it.

    :ivar channels: data connections, 1 to 64 (source).
    :ivar tracker: how dirty pages are found (source).
    :ivar policy: when to switch over (source).
    :ivar verify: compare every page before the commit (source).
    :ivar max_channels: data connections accepted (destination).
    :ivar connect_timeout_ms: for each connection to be made.
    :ivar handshake_timeout_ms: until the destination accepts or refuses,
        building its machine included.
    :ivar peer_timeout_ms: silence on the control connection, or data that
        stays unacknowledged, for so long means that the peer is gone.
    :ivar stall_timeout_ms: no byte moved on a data channel.
    :ivar head_start_ms: before the first round, the destination may spend
        this long on allocating memory; 0: the first round does not wait.
    :ivar rehearsal_timeout_ms: until the destination has loaded the trial.
    :ivar prepare_timeout_ms: from pausing the guest to PREPARED; bounds the
        blackout of an attempt that fails.
    :ivar verify_timeout_ms: for each GiB of memory compared.
    :ivar commit_timeout_ms: from COMMIT to RUNNING, on one connection.
    :ivar resolve_timeout_ms: how long to ask before reporting in-doubt.
    :ivar prepared_timeout_ms: a prepared destination that hears nothing
        discards its machine after this. Less than handshake_timeout_ms, so
        that the next source is still there when its turn comes.
    :ivar linger_timeout_ms: a destination that runs, and whose answer may
        not have arrived, waits for the source's question this long before
        serve_one() returns.
    :ivar on_state: called at every state of the protocol, on this side.
    :ivar on_round: called after every round (source).
    """

    channels: int = 2
    tracker: TrackerKind = TrackerKind.AUTO
    policy: PolicyOptions = field(default_factory=PolicyOptions)
    verify: bool = False
    max_channels: int = 64
    connect_timeout_ms: int = 10_000
    handshake_timeout_ms: int = 30_000
    peer_timeout_ms: int = 10_000
    stall_timeout_ms: int = 30_000
    head_start_ms: int = 5_000
    rehearsal_timeout_ms: int = 30_000
    prepare_timeout_ms: int = 30_000
    verify_timeout_ms: int = 30_000
    commit_timeout_ms: int = 10_000
    resolve_timeout_ms: int = 30_000
    prepared_timeout_ms: int = 20_000
    linger_timeout_ms: int = 10_000
    on_state: Callable[[State], None] | None = None
    on_round: Callable[[RoundReport], None] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= 64:
            raise ValueError(f"channels is {self.channels}, expected 1 to 64")
        for name, value in vars(self).items():
            if name.endswith("_timeout_ms") and value <= 0:
                raise ValueError(f"{name} is {value}, expected more than 0")

    def describe(self) -> dict[str, Any]:
        """JSON-able form, without the hooks."""
        plain = {k: v for k, v in vars(self).items() if not k.startswith("on_")}
        return {**plain, "tracker": self.tracker.value, "policy": asdict(self.policy)}
