# SPDX-License-Identifier: Apache-2.0
"""``pymigrate inspect``: decode a stream and say what is in it."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

from pymigrate.cli.console import plain, say_error, stdout, table, titled, write_json
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.units import count_words, size_words
from pymigrate.inspector import (
    Decoder,
    Extractor,
    Header,
    Nothing,
    Spool,
    StreamError,
    Summary,
    rests_on_contents,
)

__all__ = ["add_parser"]

_EPILOG = """\
The stream is read once, front to back, and everything in it is verified:
checksums, sequence, order, limits, the hash of every page and of every blob,
the counts and the digest of every epoch. The first error ends the command
with exit code 1 and the byte offset of the frame.

examples:
  pymigrate inspect guest.pmig
  pymigrate inspect --frames guest.pmig | less
  pymigrate inspect --json - <guest.pmig
  pymigrate inspect --extract out/ guest.pmig
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "inspect",
        help="decode and verify a stream file",
        description="Decode and verify a stream file, and say what is in it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE|-", nargs="?", default="-", help="default: stdin")
    parser.add_argument("--json", action="store_true", help="the summary as JSON on stdout")
    parser.add_argument("--frames", action="store_true", help="list every frame as it is read")
    parser.add_argument(
        "--extract",
        metavar="DIR",
        type=Path,
        help="write regions (sparse), config and state into a new or empty directory",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decode; 0 when the stream is valid, 1 when not."""
    if args.json and args.frames:
        raise CommandError("--json and --frames exclude each other", Exit.USAGE)
    error: StreamError | None = None
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(_extractor(args.extract)) if args.extract else None
        source = stack.enter_context(_open(args.file))
        contents = sink or stack.enter_context(contextlib.closing(_contents(source)))
        decoder = Decoder(source, sink, _print_frame if args.frames else None, contents)
        try:
            decoder.run()
        except StreamError as failed:
            error = failed
        except OSError as failed:
            raise CommandError(f"{failed.filename or args.file}: {failed.strerror}") from failed
    if args.json:
        write_json("-", {**decoder.summary.to_json(), **_verdict(error)})
    elif not error or decoder.summary.stream:
        show(decoder.summary)
    if error:
        say_error(f"{args.file}: {error}")
    return Exit.FAILED if error else Exit.DONE


def _verdict(error: StreamError | None) -> dict[str, Any]:
    if error is None:
        return {"valid": True, "error": None}
    found = {"offset": error.offset, "frame": error.sequence, "reason": error.reason}
    return {"valid": False, "error": found}


def _extractor(directory: Path) -> Extractor:
    try:
        return Extractor(directory)
    except OSError as error:
        raise CommandError(f"--extract: {error}", Exit.USAGE) from error


def _open(name: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if name == "-":
        if sys.stdin.isatty():
            raise CommandError("name a FILE, or redirect a stream to stdin", Exit.USAGE)
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(name, "rb")
    except OSError as error:
        raise CommandError(f"cannot open {name}: {error.strerror}", Exit.USAGE) from error


def _contents(source: BinaryIO) -> Spool | Nothing:
    """Where pages are kept while others may rest on them."""
    return Spool() if rests_on_contents(source) else Nothing()


def _print_frame(header: Header, detail: str) -> None:
    print(
        f"{header.sequence:>8} {header.offset:>14} {header.type_name:<11} "
        f"{header.head_bytes:>7} {header.body_bytes:>9}  {detail}"
    )


def show(summary: Summary) -> None:
    """Print what was decoded."""
    out = stdout()
    for part in (_stream_lines, _regions, _epochs, _encodings, _state):
        if text := part(summary):
            out.print(text)
            out.print()
    out.print(_closing_words(summary))


def _stream_lines(summary: Summary) -> Any:
    info = summary.stream
    assert info is not None
    lines = table(header=False)
    lines.add_column(style="bold")
    lines.add_column(overflow="fold")
    lines.add_row("version", "{}.{}".format(*info.version))
    lines.add_row("session", info.session_id)
    lines.add_row("channel", f"{info.channel_index} of {info.channel_count}")
    lines.add_row("frames", f"{count_words(summary.frames)} in {count_words(summary.bytes)} bytes")
    if summary.config is not None:
        lines.add_row("config", plain(_shorten(json.dumps(summary.config))))
    return lines


def _shorten(text: str, limit: int = 240) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _regions(summary: Summary) -> Any:
    assert summary.stream is not None
    rows = table()
    rows.add_column("name")
    for name in ("gpa", "size", "backing page"):
        rows.add_column(name, justify="right")
    for region in summary.stream.regions:
        rows.add_row(
            plain(region.name),
            f"{region.gpa:#x}",
            size_words(region.size_bytes),
            size_words(region.backing_page_bytes),
        )
    return titled("Regions", rows)


def _epochs(summary: Summary) -> Any:
    if not summary.epochs:
        return None
    suspects = any(epoch.suspect_pages for epoch in summary.epochs)
    stale = any(epoch.stale_pages for epoch in summary.epochs)
    rows = table()
    rows.add_column("#", justify="right")
    rows.add_column("kind")
    doubts = [*(["suspect"] if suspects else []), *(["stale"] if stale else [])]
    for name in ("pages", "zero", "raw", *doubts, "bytes"):
        rows.add_column(name, justify="right")
    rows.add_column("digest")
    for epoch in summary.epochs:
        rows.add_row(
            str(epoch.number),
            epoch.kind.name.lower(),
            count_words(epoch.pages),
            count_words(epoch.zero_pages),
            count_words(epoch.raw_pages),
            *([count_words(epoch.suspect_pages)] if suspects else []),
            *([count_words(epoch.stale_pages)] if stale else []),
            size_words(epoch.wire_bytes),
            f"{epoch.digest:016x}",
        )
    return titled("Epochs", rows)


def _encodings(summary: Summary) -> Any:
    """How pages travelled, where some did otherwise than as they are."""
    if not any(epoch.pages - epoch.zero_pages - epoch.raw_pages for epoch in summary.epochs):
        return None
    rows = table()
    rows.add_column("epoch", justify="right")
    rows.add_column("encoding")
    for name in ("pages", "bytes", "per page"):
        rows.add_column(name, justify="right")
    for epoch in summary.epochs:
        number = str(epoch.number)
        for name, pages in epoch.pages_by_encoding.items():
            if not pages:
                continue
            sizes = epoch.bytes_by_encoding[name]
            words = (count_words(pages), size_words(sizes), size_words(sizes / pages))
            rows.add_row(number, name, *words)
            number = ""
    return titled("Encodings", rows)


def _state(summary: Summary) -> Any:
    if not summary.state:
        return None
    rows = table()
    rows.add_column("name")
    rows.add_column("version", justify="right")
    rows.add_column("size", justify="right")
    rows.add_column("")
    for item in summary.state.items:
        rows.add_row(
            item.name,
            str(item.version),
            count_words(item.size_bytes),
            "skippable" if item.skippable else "",
        )
    return titled(f"State items, from the list at byte {summary.state.offset}", rows)


def _closing_words(summary: Summary) -> str:
    if not summary.complete:
        return "[red]Not a complete stream.[/]"
    if summary.loadable:
        return "[green]Valid.[/] It ends with a sealed epoch: a machine can be loaded from it."
    if summary.rests_on_others:
        return (
            "[green]Valid[/] as one channel of several: some of its pages rest on what came on "
            "another, so no machine can be loaded from it."
        )
    return "[green]Valid[/], but it does not end with a sealed epoch: no machine can be loaded."
