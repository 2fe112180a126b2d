# SPDX-License-Identifier: Apache-2.0
"""How the source and the destination agree, and the connections they make."""

from __future__ import annotations

from dataclasses import replace

from pymigrate._dial import Dialer
from pymigrate._engine import Channel, lib
from pymigrate._guest import hook
from pymigrate._link import Link
from pymigrate._outgoing import Outgoing
from pymigrate.addresses import hasten
from pymigrate.errors import RefusedError
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.policy import PolicyOptions, PostCopy
from pymigrate.protocol import Accept, Describe, Ready, Refuse

__all__ = ["Wiring"]


class Wiring:
    """What was agreed on, once greet() returned.

    :ivar policy: that of the options, without what the destination cannot do.
    :ivar late_reason: why pages cannot come late; empty: they can, or need not.
    :ivar encodings: bit e: the destination reads encoding e.
    """

    def __init__(self, dialer: Dialer, options: Options) -> None:
        self._dialer, self._options = dialer, options
        self.policy: PolicyOptions = options.policy
        self.late_reason = ""
        self.encodings = 0

    @property
    def n_channels(self) -> int:
        """Those of the rounds, and one that is urgent where pages may come late."""
        return self._options.n_channels + self._options.may_be_late

    def greet(self, link: Link, machine: Machine) -> None:
        """Describe the machine, and be accepted.

        :raises RefusedError: the destination cannot run it.
        """
        description = hook("describing the machine", machine.describe)
        link.send(
            Describe(
                description=description,
                channels=self.n_channels,
                stream_major=lib.PMIG_STREAM_VERSION_MAJOR,
                stream_minor=lib.PMIG_STREAM_VERSION_MINOR,
                late=self._options.may_be_late,
            )
        )
        answer = link.receive(
            "waiting to be accepted", self._options.handshake_timeout_ms, Accept, Refuse
        )
        if isinstance(answer, Refuse):
            raise RefusedError(answer.differences)
        assert isinstance(answer, Accept)
        self._dialer.token = answer.token
        # Raw is understood by everybody.
        self.encodings = answer.encodings | 1 << lib.PMIG_ENCODING_RAW
        if self._options.may_be_late and not answer.late:
            self._do_without_post_copy(answer.late_reason)
        link.ping()

    def _do_without_post_copy(self, reason: str) -> None:
        """The destination cannot.

        :raises RefusedError: it was asked for.
        """
        reason = reason or "the destination does not know it"
        if self._options.policy.post_copy is not PostCopy.AUTO:
            raise RefusedError([f"post-copy: {reason}"])
        self.late_reason = reason
        self.policy = replace(self.policy, post_copy=PostCopy.NEVER)

    def dial(self, link: Link, out: Outgoing, attempt: int = 0) -> list[Channel]:
        """Open the data channels; the destination has them once this returns.

        :param attempt: of a recovery, as the destination numbers them.
        """
        channels = []
        for index in range(self.n_channels):
            sock = self._dialer.data(index, attempt)
            out.own(sock)
            if self._options.may_be_late and index == self.n_channels - 1:
                hasten(sock)
            channels.append(Channel.from_socket(sock))
        link.receive("opening the data channels", self._options.handshake_timeout_ms, Ready)
        return channels
