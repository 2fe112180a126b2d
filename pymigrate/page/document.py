# SPDX-License-Identifier: Apache-2.0
"""A page of HTML that needs nothing else: no script, no network, light and dark."""

from __future__ import annotations

from collections.abc import Sequence

from pymigrate.page.style import STYLE
from pymigrate.page.words import markup

__all__ = ["document", "facts", "table"]

# Whatever a page holds, it loads nothing and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, body: str, style: str = "") -> str:
    """The whole page.

    :param body: markup.
    :param style: rules beside those that all pages share.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{markup(title)}</title><style>{STYLE}{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names, and what is to be said of each."""
    body = "".join(f"<dt>{markup(name)}</dt><dd>{markup(words)}</dd>" for name, words in rows)
    return f"<dl>{body}</dl>" if rows else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is of words, the others are of numbers."""
    head = "".join(f'<th class="n">{markup(name)}</th>' for name in heads[1:])
    body = "".join(
        f"<tr><td>{markup(row[0])}</td>"
        + "".join(f'<td class="n">{markup(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><tr><th>{markup(heads[0])}</th>{head}</tr>{body}</table></div>'
    )
