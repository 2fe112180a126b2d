# SPDX-License-Identifier: Apache-2.0
"""The table of scenarios."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench.peers.bare_mover import BareMover
from bench.peers.iperf import Iperf
from bench.peers.memory import Memcpy
from bench.peers.ours import Ours
from bench.peers.qemu import Qemu
from bench.scenario import Ratio, Scenario
from bench.task import GIB, MIB, Dirtying, Task

GBIT = 10**9
QUICK_BYTES = 256 * MIB

OURS = Ours("pymigrate")
RAW = Ours("pymigrate, raw", options=("--compress", "none", "--delta", "off"))
NO_DELTA = Ours("pymigrate, no delta", options=("--delta", "off"))

PLAIN = Qemu("QEMU plain")
MULTIFD_2 = Qemu("QEMU multifd 2", ("multifd",), {"multifd_channels": 2})
MULTIFD_4 = Qemu("QEMU multifd 4", ("multifd",), {"multifd_channels": 4})
ZSTD = Qemu(
    "QEMU multifd+zstd",
    ("multifd",),
    {"multifd_channels": 2, "multifd_compression": "zstd"},
)
XBZRLE = Qemu("QEMU xbzrle", ("xbzrle",), {"xbzrle_cache_size": 512 * MIB})
CONVERGE = Qemu("QEMU auto-converge", ("auto-converge",))

BARE = BareMover("bare mover")
BARE_FRESH = BareMover("bare mover, fresh memory", fresh=True)


def names(*contenders: object) -> tuple[str, ...]:
    return tuple(contender.name for contender in contenders)  # type: ignore[attr-defined]


def random_guest(size_bytes: int, link_bits_per_s: int = 0) -> Task:
    """An idle guest full of random bytes."""
    layout = (("random", size_bytes),)
    return Task(memory_bytes=size_bytes, layout=layout, link_bits_per_s=link_bits_per_s)


def shrunk(task: Task, size_bytes: int = QUICK_BYTES) -> Task:
    """The same with less memory; contents and working set in proportion."""
    factor = size_bytes / task.memory_bytes
    page = 2 * MIB
    layout = [(name, max(page, int(size * factor) // page * page)) for name, size in task.layout]
    return replace(
        task,
        memory_bytes=size_bytes,
        layout=tuple(layout),
        working_set_bytes=int(task.working_set_bytes * factor) // page * page,
        time_limit_s=min(task.time_limit_s, 20.0),
    )


def bulk() -> Iterator[Scenario]:
    qemus = (PLAIN, MULTIFD_2, MULTIFD_4)
    task = random_guest(4 * GIB)
    yield Scenario(
        "bulk-random",
        "Idle guest, 4 GiB of random bytes, loopback",
        "How fast memory that cannot be made smaller moves, everything included: connecting, the"
        " handshake, and allocating memory at the destination. The bare mover is plain send and"
        " recv of as many bytes, and knows neither pages nor checks.",
        task,
        (OURS, BARE, BARE_FRESH, *qemus, Iperf("iperf3"), Memcpy("memcpy")),
        (
            Ratio(
                "bytes_per_s",
                OURS.name,
                (BARE.name,),
                "throughput of pymigrate as a part of the bare mover's into populated memory",
            ),
            Ratio(
                "bytes_per_s",
                OURS.name,
                names(*qemus),
                "throughput of pymigrate as a multiple of QEMU's best configuration",
                most=True,
            ),
            Ratio(
                "cpu_s_per_gib",
                OURS.name,
                names(*qemus),
                "CPU time of pymigrate as a part of that of QEMU's cheapest configuration",
            ),
        ),
        quick_task=shrunk(task),
    )
    task = replace(random_guest(2 * GIB), backing="memfd")
    shared = (PLAIN, MULTIFD_2)
    yield Scenario(
        "bulk-random-memfd",
        "Idle guest, 2 GiB of random bytes in shared memory of 4 KiB pages, loopback",
        "The same where huge pages are not to be had, as with devices in other processes: 512 times"
        " as many pages to allocate and to map.",
        task,
        (OURS, BARE, BARE_FRESH, *shared),
        (
            Ratio("bytes_per_s", OURS.name, (BARE.name,), "throughput against the bare mover's"),
            _faster(OURS, *shared),
        ),
        pairs=3,
        quick_task=shrunk(task),
    )
    task = Task(4 * GIB, (("random", 256 * MIB), ("zero", 4 * GIB - 256 * MIB)))
    yield Scenario(
        "bulk-zero",
        "Idle guest, 4 GiB, all zero but 256 MiB, loopback",
        "What finding out costs that allocated pages hold nothing.",
        task,
        (OURS, PLAIN, MULTIFD_2),
        (_faster(OURS, PLAIN, MULTIFD_2),),
        pairs=3,
        quick_task=shrunk(task),
    )


def _faster(ours: Ours, *others: Qemu) -> Ratio:
    says = f"time of {ours.name} as a part of that of the fastest QEMU"
    return Ratio("total_ms", ours.name, names(*others), says)


def dirtying() -> Iterator[Scenario]:
    sparse = Task(
        memory_bytes=GIB,
        layout=(("random", GIB),),
        dirtying=Dirtying.WORD,
        working_set_bytes=256 * MIB,
        rate_pages_per_s=20_000,
        link_bits_per_s=GBIT,
    )
    tight = Ours("pymigrate, limit 10 ms", options=("--downtime-limit-ms", "10"))
    qemus = (PLAIN, XBZRLE, ZSTD)
    yield Scenario(
        "sparse-1g",
        "1 GiB of random bytes, 4 bytes a page changed over 256 MiB, 1 Gbit/s",
        "A guest that changes little in many pages: 20,000 pages/s over a quarter of its memory."
        " What must cross is the memory once, and then only what changed.",
        sparse,
        (OURS, tight, *qemus),
        (
            _faster(OURS, *qemus),
            _faster(tight, *qemus),
            Ratio("link_bytes_per_memory", OURS.name, names(*qemus), "bytes against QEMU's fewest"),
        ),
        quick_task=shrunk(sparse, 128 * MIB),
    )
    rewrite = replace(
        sparse,
        working_set_bytes=512 * MIB,
        rate_pages_per_s=None,
        link_bits_per_s=0,
        time_limit_s=25.0,
    )
    yield Scenario(
        "rewrite-loopback",
        "4 bytes a page changed over 512 MiB as fast as the guest can, loopback",
        "Whether a guest that could be switched within 300 ms is switched. A prediction that takes"
        " raw bytes for what must cross never finds the moment.",
        rewrite,
        (OURS, XBZRLE, ZSTD),
        quick_task=shrunk(rewrite, 512 * MIB),
    )


def full_pages() -> Iterator[Scenario]:
    """Whole pages cross, since deltas are off or cannot be had."""
    link_pages_per_s = GBIT / 8 / 4096
    near = Task(
        memory_bytes=512 * MIB,
        layout=(("random", 512 * MIB),),
        dirtying=Dirtying.WORD,
        working_set_bytes=128 * MIB,
        rate_pages_per_s=round(0.8 * link_pages_per_s),
        link_bits_per_s=GBIT,
    )
    yield Scenario(
        "full-pages-0.8",
        "Whole pages dirtied at 0.8 of a link of 1 Gbit/s",
        "Rounds shrink slowly, and who misjudges what is left oversteps the 300 ms. An interpreted"
        " guest cannot write whole pages so fast: it changes a word in each, and deltas are off, so"
        " that a whole page of random bytes must cross each time.",
        near,
        (NO_DELTA, PLAIN, MULTIFD_2, ZSTD),
        (_faster(NO_DELTA, PLAIN, MULTIFD_2, ZSTD),),
        quick_task=shrunk(near, 128 * MIB),
    )
    above = replace(near, rate_pages_per_s=round(1.2 * link_pages_per_s), time_limit_s=15.0)
    yield Scenario(
        "full-pages-1.2",
        "Whole pages dirtied at 1.2 of a link of 1 Gbit/s",
        "More is dirtied than the link carries: without deltas this cannot end within the limit,"
        " and the right answer is to say so. With deltas it can.",
        above,
        (OURS, NO_DELTA, MULTIFD_2, CONVERGE),
        pairs=3,
        quick_task=shrunk(above, 128 * MIB),
    )


def whole_pages() -> Iterator[Scenario]:
    """Really written from end to end, at a rate that an interpreted guest reaches."""
    link = GBIT // 10
    task = Task(
        memory_bytes=128 * MIB,
        layout=(("random", 128 * MIB),),
        dirtying=Dirtying.PAGE,
        working_set_bytes=32 * MIB,
        rate_pages_per_s=round(0.8 * link / 8 / 4096),
        link_bits_per_s=link,
    )
    yield Scenario(
        "whole-pages-100m",
        "Pages rewritten from end to end at 0.8 of a link of 100 Mbit/s",
        "No word of a page survives, so deltas are of no use; compression is off on all sides,"
        " since the guest writes one number all over a page.",
        task,
        (RAW, PLAIN, MULTIFD_2),
        (_faster(RAW, PLAIN, MULTIFD_2),),
        pairs=2,
    )


def links() -> Iterator[Scenario]:
    task = replace(
        random_guest(2 * GIB, 10 * GBIT),
        dirtying=Dirtying.WORD,
        working_set_bytes=64 * MIB,
        rate_pages_per_s=20_000,
    )
    qemus = (PLAIN, MULTIFD_2, MULTIFD_4)
    yield Scenario(
        "link-10g",
        "2 GiB of random bytes, 4 bytes a page changed over 64 MiB, 10 Gbit/s",
        "A link that is faster than any compressor, and slower than memory.",
        task,
        (OURS, *qemus, Iperf("iperf3")),
        (_faster(OURS, *qemus),),
        quick_task=shrunk(task),
    )


def compressible() -> Iterator[Scenario]:
    words = {
        "text": "licences, package lists and programs as text",
        "executable": "programs and libraries",
        "pointers": "the heap of a live process full of objects",
    }
    for content, what in words.items():
        # On loopback about a second each: of shorter runs single ones differ by a third.
        for link, where, mib in ((GBIT, "1g", 512), (0, "loopback", 2048)):
            task = Task(
                memory_bytes=mib * MIB,
                layout=(("zero", 2 * MIB), (content, (mib - 2) * MIB)),
                link_bits_per_s=link,
            )
            yield Scenario(
                f"{content}-{where}",
                f"{mib} MiB of {what}, {'1 Gbit/s' if link else 'loopback'}",
                "Compression pays where the link is slow, and must not cost where it is fast.",
                task,
                (OURS, RAW, ZSTD),
                (
                    _faster(OURS, ZSTD),
                    Ratio("total_ms", OURS.name, (RAW.name,), "time against sending it raw"),
                ),
                quick_task=shrunk(task),
            )


def post_copy() -> Iterator[Scenario]:
    """Guests that go ahead of their pages."""
    now = Ours("pymigrate, post-copy now", post_copy="now")
    later = Ours("pymigrate, after one round", post_copy="after-first-round")
    blocktime = ("postcopy-ram", "postcopy-blocktime")
    plain = Qemu("QEMU post-copy", blocktime, post_copy=True)
    preempt = Qemu("QEMU post-copy, preempt", (*blocktime, "postcopy-preempt"), post_copy=True)
    words = {Dirtying.SCATTERED: "random", Dirtying.WORD: "sequential"}
    for dirtying, order in words.items():
        task = Task(
            memory_bytes=GIB,
            layout=(("random", GIB),),
            dirtying=dirtying,
            working_set_bytes=256 * MIB,
            rate_pages_per_s=None,
            link_bits_per_s=GBIT,
        )
        # The boot guest of QEMU goes through its pages in order only.
        qemus = (plain, preempt) if dirtying is Dirtying.WORD else ()
        yield Scenario(
            f"postcopy-{order}-1g",
            f"1 GiB of random bytes, {order} access to 256 MiB, 1 Gbit/s, post-copy",
            "The guest runs at once and waits for the pages that it touches, while all the others"
            " are pushed at the rate of the link.",
            task,
            (now, later, *qemus),
            (
                Ratio(
                    "total_ms",
                    now.name,
                    names(*(qemus or (later,))),
                    "time until the last page against the best of the others",
                ),
                Ratio(
                    "bulk_bytes_per_s",
                    now.name,
                    (later.name,),
                    "rate at which pages follow the guest against that of a round before it goes",
                ),
            ),
            quick_task=shrunk(task),
        )


def growth() -> Iterator[Scenario]:
    for gib in (1, 2, 4, 8, 16):
        filled = gib * GIB // 4
        task = Task(gib * GIB, (("random", filled), ("untouched", gib * GIB - filled)))
        yield Scenario(
            f"growth-{gib}g",
            f"Idle guest of {gib} GiB, a quarter of it used, loopback",
            "Cost should grow with what a guest uses, not with what it may use.",
            task,
            (OURS, MULTIFD_2),
            (_faster(OURS, MULTIFD_2),),
            pairs=3,
            quick_task=shrunk(task) if gib == 1 else None,
        )
    for channels in (1, 2, 4):
        ours, bare = Ours("pymigrate", channels), BareMover("bare mover", channels)
        multifd = Qemu("QEMU multifd", ("multifd",), {"multifd_channels": channels})
        task = random_guest(GIB)
        yield Scenario(
            f"channels-{channels}",
            f"Idle guest, 1 GiB of random bytes, loopback, {channels} connections",
            "What more connections bring.",
            task,
            (ours, bare, multifd),
            (Ratio("bytes_per_s", ours.name, (bare.name,), "throughput against the bare mover's"),),
            pairs=3,
            quick_task=shrunk(task),
        )


def all_scenarios() -> list[Scenario]:
    """In the order in which they run."""
    groups = (bulk, dirtying, full_pages, whole_pages, links, compressible, post_copy, growth)
    return [scenario for group in groups for scenario in group()]
