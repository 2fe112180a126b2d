# SPDX-License-Identifier: Apache-2.0
"""A shaped link between two namespaces, by making one and taking it down."""

from __future__ import annotations

import socket

from pymigrate.cli.probes.finding import Finding, Group, Status
from pymigrate.network import Endpoint, NetworkError, shaped_link

__all__ = ["probe"]

_RATE_BITS_PER_S = 1_000_000_000
_TIMEOUT_S = 5.0


def probe() -> Group:
    """All findings about the network."""
    return Group("Network", (_unix_sockets(), _shaped_link()))


def _unix_sockets() -> Finding:
    """demo connects its two processes this way when no link is asked for."""
    try:
        left, right = socket.socketpair()
    except OSError as error:
        return Finding("unix sockets", Status.MISSING, str(error.strerror))
    left.close()
    right.close()
    return Finding("unix sockets", Status.OK, "work")


def _shaped_link() -> Finding:
    name, why = "shaped link", "needed for demo --link only"
    try:
        with shaped_link(_RATE_BITS_PER_S) as (left, right):
            _connect(left, right)
    except NetworkError as error:
        reason, _, fix = str(error).partition(": ")
        return Finding(name, Status.LIMITED, reason, why, fix)
    except OSError as error:
        return Finding(name, Status.LIMITED, f"carries nothing ({error.strerror})", why)
    return Finding(name, Status.OK, "namespaces, veth and tbf work", why)


def _connect(left: Endpoint, right: Endpoint) -> None:
    """A connection through the link, made in one end and taken in the other."""
    server = right.namespace.run(lambda: socket.create_server((right.address, 0)))
    with server:
        target = server.getsockname()
        left.namespace.run(lambda: socket.create_connection(target, _TIMEOUT_S)).close()
