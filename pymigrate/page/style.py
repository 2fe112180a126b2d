# SPDX-License-Identifier: Apache-2.0
"""The style that all pages share. Colours are classes, each for light and for dark."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --card: #fff; --ink: #1c2126; --soft: #5c6770; --faint: #e4e7e9;
  --edge: #d5dade; --ours: #0b7a75; --late: #7a4fa3; --dirty: #d9a441; --mark: #b3263a;
  --good: #1d7a3a; --note: #eef4f4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181b; --card: #1b2024; --ink: #e8ecee; --soft: #9aa6ae; --faint: #2b3237;
    --edge: #343c42; --ours: #3fb8ae; --late: #b790dc; --dirty: #c9973d; --mark: #f2788a;
    --good: #6cc487; --note: #1c292b;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 52px 0 4px; }
h3 { font-size: 16px; margin: 0 0 6px; }
p { margin: 6px 0; max-width: 76ch; }
.soft { color: var(--soft); }
.good { color: var(--good); } .warn { color: var(--dirty); } .bad { color: var(--mark); }
article { background: var(--card); border: 1px solid var(--edge); border-radius: 8px;
  padding: 18px 20px 10px; margin: 16px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
th { text-align: left; color: var(--soft); font-weight: 600;
  border-bottom: 1px solid var(--edge); }
th, td { padding: 4px 14px 4px 0; vertical-align: top; }
td { border-bottom: 1px solid var(--faint); }
td:first-child { min-width: 15ch; }
td.n, th.n { text-align: right; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 12px 0;
  font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font-size: 13px; }
a { color: var(--ours); }
figure { margin: 10px 0 14px; overflow-x: auto; }
figcaption { color: var(--soft); font-size: 13px; max-width: 90ch; margin-top: 2px; }
svg { width: 100%; min-width: 760px; height: auto; display: block; }
svg text { fill: var(--ink); font: 13px system-ui, "Segoe UI", Roboto, sans-serif; }
svg text.tick { fill: var(--soft); font-size: 11px; }
svg text.head { fill: var(--soft); font-size: 12px; font-weight: 600; }
svg text.value { font-size: 12px; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--faint); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg .band { fill: var(--mark); opacity: 0.14; }
svg .bar { stroke: none; }
svg .faint { opacity: 0.6; }
svg .bar.ours { fill: var(--ours); } svg .bar.late { fill: var(--late); }
svg .bar.dirty { fill: var(--dirty); } svg .bar.total { fill: var(--soft); }
svg .curve { fill: none; stroke-width: 2; }
svg .curve.ours { stroke: var(--ours); stroke-width: 2.6; }
svg .curve.dirty { stroke: var(--dirty); }
svg .points { fill: none; stroke-width: 4; stroke-linecap: round; opacity: 0.55; }
svg .points.late { stroke: var(--late); }
svg .dot.ours { fill: var(--ours); }
@media print { article { break-inside: avoid; } }
"""
