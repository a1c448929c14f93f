"""A person at a pseudo-terminal, who reads the screen of a script and types."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

from tiny_runs import ROOT


class Person:
    def __init__(self, script, *settings, python=sys.executable):
        self.terminal, computer = pty.openpty()
        self.before, self.screen = termios.tcgetattr(self.terminal), ""
        command = [str(python), str(ROOT / "scripts" / script), *settings]
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.script = subprocess.Popen(command, stdin=computer, stdout=computer, stderr=computer, cwd=ROOT, env=env)
        os.close(computer)

    def sees(self, pattern, types="", patience=300.0):
        """Types again and again until the pattern is on the screen; what was there before is forgotten."""
        end = time.monotonic() + patience
        while not (found := re.search(pattern, self.screen)):
            assert time.monotonic() < end and self.script.poll() is None, self.screen
            self.types(types)
            if select.select([self.terminal], [], [], 0.05)[0]:
                self.screen += self._reads()
        self.screen = self.screen[found.end() :]
        return found

    def _reads(self):
        try:
            return os.read(self.terminal, 65536).decode()
        except OSError as error:  # the script has let go of its terminal
            raise AssertionError(self.screen) from error

    def types(self, text):
        os.write(self.terminal, text.encode())

    def leaves(self):
        """Whatever is still running ends; the screen is cleared up."""
        if self.script.poll() is None:
            self.script.kill()
            self.script.wait()
        os.close(self.terminal)
