# SPDX-License-Identifier: Apache-2.0
"""The destination's machine: built from a description, and compared with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymigrate._engine import lib
from pymigrate._guest import hook
from pymigrate.errors import MachineError, RefusedError
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.protocol import Describe

__all__ = ["MachineFactory", "build_machine"]

MachineFactory = Callable[[dict[str, Any]], Machine]


def build_machine(describe: Describe, factory: MachineFactory, options: Options) -> Machine:
    """The machine that can run the described one.

    :raises RefusedError: with every difference; no machine is left then.
    """
    differences = _stream_differences(describe, options)
    if differences:
        raise RefusedError(differences)
    machine: Machine | None = None
    try:
        machine = hook("building the machine", lambda: factory(describe.description))
        found = machine
        differences = hook("checking the machine", lambda: found.check(describe.description))
    except MachineError as error:
        differences = [str(error)]
    if differences or machine is None:
        if machine is not None:
            machine.close()
        raise RefusedError(differences)
    return machine


def _stream_differences(describe: Describe, options: Options) -> list[str]:
    found = []
    ours = lib.PMIG_STREAM_VERSION_MAJOR
    if describe.stream_major != ours:
        found.append(
            f"stream version: the source sends {describe.stream_major}, "
            f"the destination reads {ours}"
        )
    if not 1 <= describe.channels <= options.max_channels:
        found.append(
            f"channels: the source wants {describe.channels}, "
            f"the destination takes 1 to {options.max_channels}"
        )
    return found
