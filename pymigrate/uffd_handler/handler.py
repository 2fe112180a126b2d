# SPDX-License-Identifier: Apache-2.0
"""One VMM's page faults, from its handshake to the last page.

Theory of operation. The VMM registers its memory with a userfaultfd and hands
that over (handshake.py). The engine answers its faults from a memory file, or
from a page server, prefetches what is known to be needed, and fills the rest;
nothing of that passes through Python. Here it is watched (service.py):

    all pages have come     memory is the kernel's again; the state is removed
    the VMM has ended       likewise
    we are told to stop     pages are missing: the state stays
    we are killed           likewise

Who is started with the same arguments while the state is there goes on with
the same VMM, which notices nothing but that some faults took longer: it has
kept its userfaultfd, and all that is known of its pages is in the state
(state.py, csrc/fault/foreign.h).
"""

from __future__ import annotations

import contextlib

from pymigrate.uffd_handler.meeting import meet
from pymigrate.uffd_handler.report import HandlerOutcome, HandlerReport
from pymigrate.uffd_handler.service import HandlerOptions, Service
from pymigrate.uffd_handler.supply import Note, Supply

__all__ = ["handle_faults"]

OVER = (HandlerOutcome.COMPLETE, HandlerOutcome.VMM_ENDED)


def handle_faults(options: HandlerOptions, supply: Supply, note: Note) -> HandlerReport:
    """Serve one VMM; an interrupt ends it, and is seen in the report.

    :param supply: where the pages come from; closed when this returns.
    :param note: is told what happens, a sentence at a time, on any thread.
    :raises MigrateError: there was none to serve; the sentence says why.
    """
    with contextlib.closing(supply):
        charge = meet(options.socket_path, supply, options.connect_timeout_ms, note)
        with contextlib.closing(charge):
            with contextlib.closing(Service(charge, supply, options, note)) as service:
                report = service.run()
            # Not before: while the engine works, it may be killed.
            if report.outcome in OVER:
                charge.state.remove()
        return report
