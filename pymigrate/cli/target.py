# SPDX-License-Identifier: Apache-2.0
"""Where a guest is sent, after what can be refused at once."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from pymigrate.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from pymigrate.addresses import Address

__all__ = ["make_room", "read_target"]


def read_target(args: argparse.Namespace) -> Address:
    """The address of the destination.

    :raises CommandError: it is none, or does not go with the other options.
    """
    from pymigrate.addresses import Scheme, parse_address
    from pymigrate.errors import AddressError

    try:
        address = parse_address(args.target)
    except AddressError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    if address.scheme is Scheme.FILE and os.path.lexists(address.path) and not args.force:
        words = f"{address.path} exists: name another file, or overwrite it with --force"
        raise CommandError(words, Exit.USAGE)
    if not address.is_socket:
        _without_post_copy(args, address)
    return address


def _without_post_copy(args: argparse.Namespace, address: Address) -> None:
    """Nobody runs the guest there, so nobody waits for pages; auto may mean never."""
    for name, given in (
        ("--control", args.control),
        ("--post-copy", args.post_copy not in (None, "never", "auto")),
    ):
        if given:
            words = f"{name} needs a destination that runs the guest, and {address} is none"
            raise CommandError(words, Exit.USAGE)
    args.post_copy = "never"


def make_room(target: Address) -> None:
    """With --force the file makes room, but not before the guest was built."""
    from pymigrate.addresses import Scheme

    if target.scheme is Scheme.FILE and os.path.isfile(target.path):
        os.unlink(target.path)
