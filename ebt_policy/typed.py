"""What somebody typed, before hydra reads it: a name stays the name that was typed, whatever it looks like.

To hydra run=20240101 is a number, run=2024_01 is 202401, run=a(1) calls a function, and ~, =, commas and letters
beyond ASCII end in an error. Names of files, runs and the like are therefore quoted for it.
"""

from __future__ import annotations

import os
import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

NAMES = {  # last parts of settings that are names: of files, folders, filter keys, hosts; tokens
    *("run", "of", "out", "json", "folder", "data", "demos", "file", "filter_key", "token", "server", "host"),
    *("corpus", "cache", "source", "judge", "env", "around", "prompt", "name", "compare"),
}


def as_typed(words: list[str]) -> list[str]:
    """The words of a command line, names quoted for hydra. ValueError for a word that hydra cannot read."""
    parser = OverridesParser.create()
    return [word if word.startswith("-") else _readable(parser, word) for word in words]


def _readable(parser: OverridesParser, word: str) -> str:
    key, equals, value = word.partition("=")
    if equals and key.lstrip("+").split(".")[-1] in NAMES and not re.match("""\\s*['"]""", value):
        if value.startswith("~/"):  # some shells leave it to who reads it
            return _readable(parser, f"{key}={os.path.expanduser(value)}")
        said = _parsed(parser, word)
        is_text = isinstance(said, Override) and not said.is_sweep_override() and isinstance(said.value(), str | None)
        return word if is_text else f"{key}={_quoted(value)}"
    if isinstance(said := _parsed(parser, word), str):
        names = value.strip("[]").split(",")
        quoted = f"[{','.join(map(_quoted, names))}]" if value.startswith("[") else _quoted(value)
        raise ValueError(f'{word} cannot be read ({said}): quote what is not plain, as in "{key}={quoted}"')
    return word


def _parsed(parser: OverridesParser, word: str) -> Override | str:
    """What hydra makes of a word, or why it makes nothing of it."""
    try:
        return parser.parse_override(word)
    except HydraException as error:
        return str(error).partition("\n")[0]


def _quoted(value: str) -> str:
    """In hydra's single quotes: a quote, and backslashes before one or at the end, take one more."""
    escaped = re.sub(r"(\\*)(?='|$)", lambda slashes: 2 * slashes[0], value).replace("'", "\\'")
    return f"'{escaped}'"
