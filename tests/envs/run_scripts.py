"""Runs scripts in one process, where each by itself would spend most of its time on imports.

Reads a JSON list of command lines, without `python`, and writes one of what each said and the code it left with.
"""

import contextlib
import io
import json
import runpy
import sys


def run(command: list[str]) -> list:
    """[what it said, its exit code or last words]."""
    said, sys.argv = io.StringIO(), command
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(command[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return [said.getvalue(), code]


if __name__ == "__main__":
    answers = [run(command) for command in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)
