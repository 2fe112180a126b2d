# SPDX-License-Identifier: Apache-2.0
"""Pages from a page server: the client.

Theory of operation. A thread keeps one set of connections to the server: one
for messages, one for each data channel. Each set is a session of its own, of
which the server remembers nothing once it is over: it says which pages the
file holds, and is told which of them are missing. Whatever breaks, the set is
dropped and another one made, for as long as it takes: meanwhile the guest runs
on what it has. The engine answers nobody then, and asks again by itself.

What does not heal ends it: a server that refuses, or that has other contents
than before.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import threading
from collections.abc import Iterator, Sequence

from pymigrate._dial import Dialer
from pymigrate._engine import (
    ENCODINGS_ALL,
    Channel,
    EndEvent,
    Faults,
    Memory,
    Receiver,
    lib,
    pack_bitmap,
    unpack_bitmap,
)
from pymigrate._fault_figures import fault_report
from pymigrate._link import Link
from pymigrate._memory_file import count_pages
from pymigrate._trouble import Trouble
from pymigrate.addresses import Address
from pymigrate.errors import (
    CancelledError,
    EngineError,
    HandshakeError,
    MigrateError,
    ProtocolError,
)
from pymigrate.options import Options
from pymigrate.protocol import Accept, Arrived, Describe, First, Held, Missing, Offer, Refuse
from pymigrate.uffd_handler.handshake import GuestRegion
from pymigrate.uffd_handler.supply import Note, OnExpected, Plan, Supply

__all__ = ["ServerSupply"]

RETRY_S = 0.2
# For the server to read the last word.
FAREWELL_MS = 2000


class ServerDialer(Dialer):
    """Dials a page server."""

    @property
    def peer(self) -> str:
        return f"the page server {self.target}"


class ServerSupply(Supply):
    """Pages of the file that a page server has.

    :param note: is told when the server is lost and found again.
    :raises MigrateError: nobody answers there.
    """

    def __init__(self, address: Address, options: Options, note: Note) -> None:
        self.name = f"page server {address}"
        self._address, self._options, self._note = address, options, note
        self._stopped = threading.Event()
        self._trouble = Trouble()
        self._failure: MigrateError | None = None
        self._started = self._lost = False
        self._interruptions = 0
        self._thread: threading.Thread | None = None
        offer = self._probe()
        self.contents, self._size_bytes = offer.contents, offer.size_bytes

    def _probe(self) -> Offer:
        with self._link(self._dial()) as link:
            return self._take_offer(link)

    def check(self, regions: Sequence[GuestRegion]) -> None:
        for region in regions:
            if region.end_bytes > self._size_bytes:
                raise HandshakeError(
                    f"the file of the {self.name} has {self._size_bytes} bytes, and a region of "
                    f"the memory ends at {region.end_bytes}: it belongs to another VM"
                )

    def begin(self, memory: Memory, faults: Faults, plan: Plan, on_expected: OnExpected) -> None:
        self._memory, self._faults, self._plan = memory, faults, plan
        self._on_expected = on_expected
        self._thread = threading.Thread(target=self._run, name="pmig-fetch", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> MigrateError | None:
        return self._failure

    @property
    def interruptions(self) -> int:
        return self._interruptions

    def close(self) -> None:
        if self._thread is None:
            return
        if self._is_complete():
            self._thread.join(FAREWELL_MS / 1000)
        self._stopped.set()
        self._trouble.report(CancelledError("the handler of page faults ends"))
        self._thread.join()
        self._thread = None

    # ---- the thread ----------------------------------------------------

    def _run(self) -> None:
        while not self._stopped.is_set() and not self._is_complete():
            try:
                self._serve()
                return
            except HandshakeError as error:
                self._failure = error
                return
            except MigrateError as error:
                self._lose(self._trouble.error or error)
            self._stopped.wait(RETRY_S)

    def _is_complete(self) -> bool:
        return self._started and not self._faults.missing_pages()

    def _lose(self, error: MigrateError) -> None:
        # Whose memory it is, and whether that is so, is seen elsewhere.
        gone = isinstance(error, EngineError) and error.code == -errno.ESRCH
        if self._lost or self._stopped.is_set() or self._is_complete() or gone:
            return
        self._lost = True
        self._note(f"{error}; trying to reach it again, what the guest misses waits")

    def _find(self) -> None:
        if self._lost:
            self._lost = False
            self._interruptions += 1
            self._note(f"the {self.name} is in reach again")

    def _dial(self) -> ServerDialer:
        self._trouble = Trouble()
        if self._stopped.is_set():
            self._trouble.report(CancelledError("the handler of page faults ends"))
        return ServerDialer(
            self._address, self._options, session=secrets.token_hex(16), trouble=self._trouble
        )

    @contextlib.contextmanager
    def _link(self, dialer: ServerDialer) -> Iterator[Link]:
        link = dialer.link("fetch")
        try:
            yield link
        finally:
            link.close(FAREWELL_MS if link.failure is None else 0)

    def _take_offer(self, link: Link) -> Offer:
        return link.receive("asking for the file", self._options.handshake_timeout_ms, Offer)

    def _serve(self) -> None:
        """One session, until nothing is missing."""
        dialer = self._dial()
        with self._link(dialer) as link:
            contents = self._take_offer(link).contents
            if contents != self.contents:
                raise HandshakeError(
                    f"the {self.name} has another file than before, or it was changed: its pages "
                    "do not go with those that the guest has"
                )
            dialer.token = self._describe(link)
            self._expect(link.receive("asking for pages", self._limit_ms, Held))
            if self._is_complete():
                return
            self._ask(link)
            self._fetch(dialer, link)

    @property
    def _limit_ms(self) -> int:
        return self._options.handshake_timeout_ms

    @property
    def _channels(self) -> int:
        """The last one is urgent."""
        return self._options.n_channels + 1

    def _describe(self, link: Link) -> str:
        """Say which memory; returns the token."""
        link.send(
            Describe(
                description={
                    "kind": "memory-file",
                    "memory": self._memory.describe(),
                    "encodings": ENCODINGS_ALL,
                },
                channels=self._channels,
                stream_major=lib.PMIG_STREAM_VERSION_MAJOR,
                stream_minor=lib.PMIG_STREAM_VERSION_MINOR,
                late=True,
            )
        )
        answer = link.receive("describing the memory", self._limit_ms, Accept, Refuse)
        if isinstance(answer, Refuse):
            raise HandshakeError(f"the {self.name} refuses: {'; '.join(answer.differences)}")
        assert isinstance(answer, Accept)
        return answer.token

    def _expect(self, held: Held) -> None:
        """What the file does not hold is zeros, and nobody has to be asked."""
        try:
            words = unpack_bitmap(held.body, self._memory.blocks)
        except ValueError as error:
            raise ProtocolError(f"the {self.name} sent {error}") from None
        if not self._started:
            self._faults.expect(list(memoryview(words).cast("Q")))
            self._on_expected()
            self._faults.start()
            self._started = True

    def _ask(self, link: Link) -> None:
        plan = self._plan
        pages = b"".join(page.to_bytes(8, "little") for page in plan.first_pages)
        body = pack_bitmap(pages) if pages else b""
        link.send(First(pages=len(plan.first_pages), push=plan.push.name.lower(), body=body))
        words = self._faults.missing()
        link.send(Missing(attempt=0, pages=count_pages(words), body=pack_bitmap(words)))

    def _fetch(self, dialer: ServerDialer, link: Link) -> None:
        """Let the engine ask and place, until the server says that it is over."""
        with contextlib.ExitStack() as stack:
            channels = []
            for index in range(self._channels):
                sock = stack.enter_context(dialer.data(index))
                channels.append(stack.enter_context(Channel.from_socket(sock)))
            receiver = stack.enter_context(
                Receiver(
                    self._memory,
                    channels,
                    bytes.fromhex(dialer.session),
                    self._options.stall_timeout_ms,
                    fresh=True,
                    cpus=self._options.cpus,
                    faults=self._faults,
                )
            )
            self._trouble.on_trouble(lambda _error: receiver.cancel())
            stack.callback(self._faults.attach, None)
            self._faults.attach(channels[-1])
            self._find()
            while not isinstance(receiver.wait(), EndEvent):
                pass
        with contextlib.suppress(MigrateError):
            link.send(Arrived(figures=fault_report(self._faults).to_dict()))
