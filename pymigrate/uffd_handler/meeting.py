# SPDX-License-Identifier: Apache-2.0
"""How a handler comes by a VMM: by its handshake, or where another one died."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from pymigrate.addresses import Address, Scheme, listen
from pymigrate.errors import HandshakeError, StepTimeoutError, TakeoverError
from pymigrate.uffd_handler.handshake import Handshake, receive_handshake
from pymigrate.uffd_handler.state import HandlerState, Served, state_path
from pymigrate.uffd_handler.supply import Note, Supply
from pymigrate.uffd_handler.vmm_process import VmmIdentity, fetch_uffd, reports_removals

__all__ = ["Charge", "meet"]

# A VMM that has connected sends its message at once.
HANDSHAKE_TIMEOUT_S = 10.0
# The system knows no limits of months.
LISTEN_STEP_S = 3600.0


@dataclass
class Charge:
    """A VMM whose page faults are ours to handle.

    :ivar uffd: ours to close.
    :ivar took_over: another handler was killed.
    """

    state: HandlerState
    uffd: int
    took_over: bool

    def close(self) -> None:
        """Idempotent; close the faults before."""
        if self.uffd >= 0:
            os.close(self.uffd)
        self.uffd = -1
        self.state.close()


def meet(socket_path: str, supply: Supply, timeout_ms: int | None, note: Note) -> Charge:
    """Go on where a handler was killed, or wait for a VMM.

    :param timeout_ms: for it to connect; None: no limit.
    :raises HandshakeError: what it has is not what can be served.
    :raises TakeoverError: it cannot be gone on with.
    :raises StepTimeoutError: none connected.
    """
    state = HandlerState.adopt(state_path(socket_path))
    if state is not None:
        return _take_over(state, supply)
    handshake = _wait_for_vmm(socket_path, timeout_ms, note)
    try:
        return _begin(socket_path, handshake, supply, note)
    except BaseException:
        os.close(handshake.uffd)
        raise


def _take_over(state: HandlerState, supply: Supply) -> Charge:
    try:
        served = state.served
        if served.contents != supply.contents:
            raise TakeoverError(
                f"the VMM (pid {served.vmm.pid}) has pages of {served.memory} as it was; "
                f"{supply.name} has other contents, which do not go with them"
            )
        return Charge(state, fetch_uffd(served.vmm), took_over=True)
    except BaseException:
        state.close()
        raise


def _begin(socket_path: str, handshake: Handshake, supply: Supply, note: Note) -> Charge:
    supply.check(handshake.regions)
    identity = VmmIdentity.of(handshake.pid, handshake.uffd)
    served = Served(identity, handshake.regions, supply.name, supply.contents)
    try:
        state = HandlerState.create(state_path(socket_path), served)
    except OSError as error:
        raise HandshakeError(
            f"cannot write {state_path(socket_path)}, which another handler would need to go on: "
            f"{error.strerror}"
        ) from error
    _try_fetching(identity, note)
    if not reports_removals(handshake.uffd):
        note("the VMM does not tell of memory that it gives back: it would come back as it was")
    return Charge(state, handshake.uffd, took_over=False)


def _try_fetching(identity: VmmIdentity, note: Note) -> None:
    """Better to know now that nobody could go on after us."""
    try:
        os.close(fetch_uffd(identity))
    except TakeoverError as error:
        note(f"should this handler be killed, no other can go on: {error}")


def _wait_for_vmm(socket_path: str, timeout_ms: int | None, note: Note) -> Handshake:
    listener, _ = listen(Address(Scheme.UNIX, path=socket_path))
    limit_s = threading.TIMEOUT_MAX if timeout_ms is None else timeout_ms / 1000
    deadline = time.monotonic() + limit_s
    try:
        note(f"listening on {socket_path}")
        while (left_s := deadline - time.monotonic()) > 0:
            listener.settimeout(min(left_s, LISTEN_STEP_S))
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                continue
            with sock:
                handshake = receive_handshake(sock, HANDSHAKE_TIMEOUT_S)
            if handshake is not None:
                return handshake
    finally:
        listener.close()
        os.unlink(socket_path)
    raise StepTimeoutError(f"no VMM connected to {socket_path} within {limit_s:g} s")
