# SPDX-License-Identifier: Apache-2.0
"""Every exception that pymigrate raises on purpose, in one tree.

::

    MigrateError
    ├── EngineError             the C core failed; .code is a negative errno
    │   ├── NotSupportedError   -ENOTSUP: this host or kernel lacks something
    │   ├── StreamError         -EBADMSG: what arrived is not a valid stream
    │   ├── ChannelError        -EPIPE, -ECONNRESET: a data channel ended early
    │   ├── StallError          -ETIMEDOUT: a data channel moved no byte
    │   └── EngineCancelled     -ECANCELED: the call was cancelled
    ├── AddressError            not an address, or not one for this purpose
    ├── ProtocolError           the peer said something it may not say
    ├── PeerLostError           the control connection ended or fell silent
    ├── StepTimeoutError        a step took longer than its limit
    ├── PeerFailedError         the peer reports that its side failed
    ├── RefusedError            the destination cannot run it; .differences
    ├── MachineError            a hook of the machine raised
    ├── PolicyError             a policy of the caller's own failed
    ├── NotConvergedError       the guest dirties faster than the link carries
    ├── CancelledError          cancel() was called
    ├── TooLateError            cancel() after the commit
    ├── NotRunningError         tune() before or after the migration
    ├── InDoubtError            commit was sent, its answer never came
    ├── IncompleteError         the guest moved, and some of its pages did not
    ├── HandshakeError          a VMM's memory is not what can be served
    ├── TakeoverError           the page faults of a VMM cannot be gone on with
    └── WorkingSetError         a list of first pages that cannot be used

Where a migration reports instead of raising (:meth:`Source.migrate`), the
sentence of the exception is the report's ``error``.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

__all__ = [
    "AddressError",
    "CancelledError",
    "ChannelError",
    "EngineCancelled",
    "EngineError",
    "HandshakeError",
    "InDoubtError",
    "IncompleteError",
    "MachineError",
    "MigrateError",
    "NotConvergedError",
    "NotRunningError",
    "NotSupportedError",
    "PeerFailedError",
    "PeerLostError",
    "PolicyError",
    "ProtocolError",
    "RefusedError",
    "StallError",
    "StepTimeoutError",
    "StreamError",
    "TakeoverError",
    "TooLateError",
    "WorkingSetError",
]


class MigrateError(Exception):
    """Root of the tree; str() is one sentence for a person."""


class EngineError(MigrateError):
    """The C core failed.

    :ivar code: the negative errno value that it returned.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @staticmethod
    def of(code: int, message: str) -> EngineError:
        """The most specific class for a code."""
        return _BY_ERRNO.get(-code, EngineError)(code, message)


class NotSupportedError(EngineError):
    """This host or kernel lacks what the call needs; the sentence names it."""


class StreamError(EngineError):
    """What arrived is not a valid stream, or fails its checksum."""


class ChannelError(EngineError):
    """A data channel ended before its orderly end."""


class StallError(EngineError):
    """No byte moved on a data channel for the stall timeout."""


class EngineCancelled(EngineError):
    """The call was ended by the object's cancel()."""


class AddressError(MigrateError, ValueError):
    """Not an address that pymigrate understands, or not usable here."""


class ProtocolError(MigrateError):
    """A control frame is malformed, out of place, or of another session."""


class PeerLostError(MigrateError):
    """The control connection ended, or nothing came for too long."""


class StepTimeoutError(MigrateError, TimeoutError):
    """A step took longer than its limit; the sentence names both."""


class PeerFailedError(MigrateError):
    """The peer reports that its own side failed."""


class RefusedError(MigrateError):
    """The destination cannot run this machine.

    :ivar differences: one sentence for each thing that differs.
    """

    def __init__(self, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        super().__init__("the destination refuses: " + "; ".join(self.differences))


class MachineError(MigrateError):
    """A hook of the machine raised; the cause is chained."""


class PolicyError(MigrateError):
    """A policy that the caller supplied raised, or answered nonsense."""


class NotConvergedError(MigrateError):
    """The downtime limit cannot be met; the sentence gives the figures."""


class CancelledError(MigrateError):
    """The migration was cancelled by its owner."""


class TooLateError(MigrateError):
    """Commit was sent: the migration cannot be cancelled any more."""


class NotRunningError(MigrateError):
    """No migration runs that could be tuned."""


class InDoubtError(MigrateError):
    """Commit was sent and its answer never came.

    The source stays paused: the destination may be running. Ask again with
    :meth:`Source.resolve`.
    """


class IncompleteError(MigrateError):
    """The guest runs at the destination, and pages of it are missing there.

    They are at the source, which is out of reach. Both sides keep what they
    have: see :meth:`Source.recover` and :meth:`Destination.recover`.
    """


class HandshakeError(MigrateError):
    """A VMM's handshake is malformed, or does not fit the memory file."""


class TakeoverError(MigrateError):
    """Where a handler of page faults was killed, another one cannot go on."""


class WorkingSetError(MigrateError):
    """A list of the pages that a guest touched first is damaged, of another
    machine, or cannot be read or written. Nothing depends on it.
    """


_BY_ERRNO: dict[int, type[EngineError]] = {
    errno.ENOTSUP: NotSupportedError,
    errno.EBADMSG: StreamError,
    errno.EPIPE: ChannelError,
    errno.ECONNRESET: ChannelError,
    errno.ETIMEDOUT: StallError,
    errno.ECANCELED: EngineCancelled,
}
