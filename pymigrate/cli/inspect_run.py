# SPDX-License-Identifier: Apache-2.0
"""Decoding a stream for ``pymigrate inspect``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pymigrate.cli.console import say_error, write_json
from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.render.stream import show_stream
from pymigrate.inspector import (
    Decoder,
    Extractor,
    Header,
    Nothing,
    Spool,
    StreamError,
    rests_on_contents,
)

if TYPE_CHECKING:
    import argparse

__all__ = ["inspect_stream"]


def inspect_stream(args: argparse.Namespace) -> int:
    """Decode; 0 when the stream is valid, 1 when not."""
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
        show_stream(decoder.summary)
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
