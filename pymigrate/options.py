# SPDX-License-Identifier: Apache-2.0
"""Options of a migration; every wait has its limit here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pymigrate._engine import TrackerKind
from pymigrate.policy import PolicyOptions, PostCopy
from pymigrate.report import RoundReport
from pymigrate.states import State
from pymigrate.tuning import MAX_CHANNELS, Choice, Compression, Tuning

__all__ = ["Options"]

# One connection cannot use two processors, and past these nothing was gained.
MIN_AUTO_CHANNELS = 2
MAX_AUTO_CHANNELS = 8


@dataclass(frozen=True)
class Options:
    """Options of either side; each side reads what concerns it.

    :ivar channels: data connections, 1 to 64, all of them in use; None: one
        for each processor that this process may use, 2 to 8, of which as
        many are in use as help (source).
    :ivar compression: of pages that are sent whole, see Tuning (source).
    :ivar compression_level: likewise (source).
    :ivar delta: send only the lines that changed (source).
    :ivar delta_memory_bytes: for the fingerprints that find those lines;
        None: a 16th of guest memory; 0: none, and no delta (source).
    :ivar zero_copy: send raw pages without copying them (source).
    :ivar bandwidth_limit_bytes_per_s: of all connections; None: none (source).
    :ivar cpus: processors for the threads that move pages; empty: all that
        this process may use.
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
        this long on allocating memory; 0: pages flow meanwhile, which is
        sooner where it has a processor to spare, and on any slow link.
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
    :ivar recover_timeout_ms: pages are missing, and the other side is out of
        reach: how long to try to reach it, or to wait for it, before
        reporting that.
    :ivar pause_when_lost: pause the guest then (destination).
    :ivar lazy: run a guest out of a file at once, and read its memory when
        it is touched; see Destination.restoring (destination).
    :ivar fill_limit_bytes_per_s: of reading what is not touched then; None:
        none (destination).
    :ivar on_state: called at every state of the protocol, on this side.
    :ivar on_round: called after every round (source).
    """

    channels: int | None = None
    compression: Compression = Compression.AUTO
    compression_level: int = 0
    delta: Choice = Choice.AUTO
    delta_memory_bytes: int | None = None
    zero_copy: Choice = Choice.AUTO
    bandwidth_limit_bytes_per_s: int | None = None
    cpus: tuple[int, ...] = ()
    tracker: TrackerKind = TrackerKind.AUTO
    policy: PolicyOptions = field(default_factory=PolicyOptions)
    verify: bool = False
    max_channels: int = 64
    connect_timeout_ms: int = 10_000
    handshake_timeout_ms: int = 30_000
    peer_timeout_ms: int = 10_000
    stall_timeout_ms: int = 30_000
    head_start_ms: int = 0
    rehearsal_timeout_ms: int = 30_000
    prepare_timeout_ms: int = 30_000
    verify_timeout_ms: int = 30_000
    commit_timeout_ms: int = 10_000
    resolve_timeout_ms: int = 30_000
    prepared_timeout_ms: int = 20_000
    linger_timeout_ms: int = 10_000
    recover_timeout_ms: int = 300_000
    pause_when_lost: bool = False
    lazy: bool = False
    fill_limit_bytes_per_s: int | None = None
    on_state: Callable[[State], None] | None = None
    on_round: Callable[[RoundReport], None] | None = None

    def __post_init__(self) -> None:
        if self.channels is not None and not 1 <= self.channels <= MAX_CHANNELS:
            raise ValueError(f"channels is {self.channels}, expected 1 to {MAX_CHANNELS}")
        for name, value in vars(self).items():
            if name.endswith("_timeout_ms") and value <= 0:
                raise ValueError(f"{name} is {value}, expected more than 0")
        if self.fill_limit_bytes_per_s is not None and self.fill_limit_bytes_per_s <= 0:
            raise ValueError(
                f"fill_limit_bytes_per_s is {self.fill_limit_bytes_per_s}, expected more than 0"
            )
        self._check_post_copy()
        self._check_delta()
        self._check_cpus()
        _ = self.tuning  # which checks its members

    def _check_post_copy(self) -> None:
        if not self.may_be_late:
            return
        if self.verify:
            raise ValueError(
                "verify compares all pages before the guest runs, "
                "and with post-copy they are not there yet"
            )
        if self.n_channels == MAX_CHANNELS:
            raise ValueError(
                f"post-copy has a connection of its own: channels is {MAX_CHANNELS}, "
                f"expected at most {MAX_CHANNELS - 1}"
            )

    @property
    def may_be_late(self) -> bool:
        """Pages may be sent after the switchover (source)."""
        return self.policy.post_copy is not PostCopy.NEVER

    def _check_delta(self) -> None:
        memory = self.delta_memory_bytes
        if memory is not None and not 0 <= memory < 1 << 63:
            raise ValueError(f"delta_memory_bytes is {memory}, expected 0 or more")
        if memory == 0 and self.delta is Choice.ON:
            raise ValueError("delta is on and has no memory: delta_memory_bytes is 0")

    def _check_cpus(self) -> None:
        usable = os.sched_getaffinity(0)
        for cpu in self.cpus:
            if cpu not in usable:
                words = ", ".join(str(number) for number in sorted(usable))
                raise ValueError(f"processor {cpu} is not among those of this process: {words}")

    @property
    def n_channels(self) -> int:
        """Data connections to open."""
        if self.channels is not None:
            return self.channels
        cpus = len(self.cpus) or len(os.sched_getaffinity(0))
        return max(MIN_AUTO_CHANNELS, min(MAX_AUTO_CHANNELS, cpus))

    @property
    def tuning(self) -> Tuning:
        """What may be changed while it runs, as it is at the start."""
        return Tuning(
            compression=self.compression,
            compression_level=self.compression_level,
            delta=Choice.OFF if self.delta_memory_bytes == 0 else self.delta,
            zero_copy=self.zero_copy,
            active_channels=self.channels,
            bandwidth_limit_bytes_per_s=self.bandwidth_limit_bytes_per_s,
        )

    def describe(self) -> dict[str, Any]:
        """JSON-able form, without the hooks."""
        plain = {k: v for k, v in vars(self).items() if not k.startswith("on_")}
        named = {k: v.value for k, v in plain.items() if isinstance(v, Enum)}
        channels, cpus = self.n_channels, list(self.cpus)
        policy = self.policy.describe()
        return {**plain, **named, "policy": policy, "channels": channels, "cpus": cpus}
