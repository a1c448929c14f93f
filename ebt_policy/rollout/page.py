"""One HTML page that holds everything in itself: the pieces that a report is put together from."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

CSS = """
:root { --ink: #1f2933; --faint: #616e7c; --line: #e4e7eb; --good: #2f6fb3; --bad: #d9731a; --paper: #ffffff; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 2px; }
h2 { font-size: 16px; margin: 0 0 10px; }
p { margin: 0 0 10px; }
.faint { color: var(--faint); font-size: 13.5px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
section { padding: 18px 20px; margin-top: 18px; }
section > :last-child { margin-bottom: 0; }
.two { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 18px 26px; align-items: start; }
.hero { align-items: center; }
.big { font-size: 68px; line-height: 1.05; font-weight: 650; letter-spacing: -1.5px; color: var(--good); }
.scale { position: relative; height: 10px; border-radius: 5px; background: var(--line); margin: 16px 0 4px; }
.scale i { position: absolute; top: 0; bottom: 0; border-radius: 5px; background: var(--good); opacity: 0.35; }
.scale b { position: absolute; top: -4px; bottom: -4px; width: 4px; margin-left: -2px; background: var(--good); }
.ends { display: flex; justify-content: space-between; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px 20px; }
.facts { margin: 20px 0 14px; }
.facts b { display: block; font-size: 19px; }
img, video { display: block; max-width: 100%; }
video { margin: 0 auto; cursor: pointer; border-radius: 6px; border: 1px solid var(--line); }
.strip { display: flex; flex-wrap: wrap; gap: 3px; align-items: flex-end; }
.strip i { width: 11px; border-radius: 2px 2px 0 0; }
.key { display: inline-block; width: 11px; height: 11px; margin: 0 5px 0 12px; vertical-align: -1px; }
.held { background: var(--good); }
.lost { background: repeating-linear-gradient(45deg, var(--good) 0 3px, #bcd3ec 3px 6px); }
.bad { background: var(--bad); }
.unknown { background: var(--faint); }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
td { padding: 3px 10px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td:first-child { color: var(--faint); width: 42%; }
.grid td { overflow-wrap: normal; white-space: pre-line; }
.grid td:first-child { width: auto; }
.grid th { padding: 3px 10px 3px 0; text-align: left; color: var(--faint); font-weight: 600; vertical-align: bottom; }
.wide { overflow-x: auto; }
details { margin-top: 10px; }
summary { cursor: pointer; color: var(--faint); }
@media (max-width: 760px) { .two { grid-template-columns: minmax(0, 1fr); } }
"""

MEDIA = {".png": "image/png", ".mp4": "video/mp4"}


def page(title: str, body: Iterable[str]) -> str:
    """The whole document; `title` is plain text, `body` HTML."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    content = "\n".join(part for part in body if part)
    head = f"<head>{head}<style>{CSS}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}\n<body><main>\n{content}\n</main></body></html>\n'


def section(title: str, *parts: str) -> str:
    """A card under a heading; nothing at all if it would be empty."""
    content = "\n".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def side_by_side(*parts: str, extra: str = "") -> str:
    """Two columns; one part alone has the whole width."""
    filled = [f"<div>{part}</div>" for part in parts if part]
    return f'<div class="two {extra}">{"".join(filled)}</div>' if len(filled) > 1 else "".join(filled)


def table(rows: Mapping[str, Any]) -> str:
    """Two columns of plain text."""
    cells = (f"<tr><td>{escape(str(k))}</td><td>{escape(str(v))}</td></tr>" for k, v in rows.items())
    return f"<table>{''.join(cells)}</table>" if rows else ""


def grid(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns of plain text under their names; None is a dash. Nothing at all without rows."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = ["".join(f"<td>{escape('-' if cell is None else str(cell))}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table class="grid"><tr>{names}</tr>{body}</table></div>' if lines else ""


def note(text: str) -> str:
    return f'<p class="faint">{escape(text)}</p>' if text else ""


def fold(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def image(uri: str, alt: str) -> str:
    return f'<img src="{uri}" alt="{escape(alt)}">'


def video(uri: str) -> str:
    """Plays by itself, over and over; a click halts it. Without the browser's controls, which would hide its foot."""
    click = "this.paused ? this.play() : this.pause()"
    return f'<video src="{uri}" autoplay loop muted playsinline onclick="{click}"></video>'


def file_uri(path: Path) -> str:
    """The contents of a PNG or MP4 file as a data URI."""
    return f"data:{MEDIA[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
