"""A simulated Franka on loopback that speaks the arm's own protocol, in its own process, with a cube before it.

.venv-franka/bin/python tests/deploy/franka_world.py

Prints the arm's address. Then, for each line that it reads, what is true in the world. Ends when its input ends.

What it is not: it has no reflexes and no limits, its targets are met to 0.1 mm. Its joints are damped five times less
than is the simulator's default, with which the wrist trembles by 5 rad/s^2. This simulator reports, in joint motions,
the measured acceleration as the commanded one; each new target starts from there, and so the arm ran away from joint
targets that changed at 20 Hz.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from contextlib import contextmanager

SIDE, MASS = 0.04, 0.05  # m, kg
DAMPING = (90.0, 90.0, 70.0, 70.0, 40.0, 40.0, 40.0)  # Nm s/rad
PLACE = (0.45, 0.1, SIDE / 2)  # m from the arm's base; arm and cube stand on the floor


class World:
    """The process, from the test's side."""

    def __init__(self, python=sys.executable):
        command = [str(python), __file__]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.host: str = self._answer()

    def look(self) -> dict:
        """time: s of the world, cube: m (3,), joints: rad (7,)."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def speed(self) -> float:
        """rad/s of the fastest joint, over a tenth of a second of the world: the simulated wrist trembles."""
        before = after = self.look()
        while after["time"] < before["time"] + 0.1:
            time.sleep(0.005)
            after = self.look()
        ways = [abs(a - b) for a, b in zip(after["joints"], before["joints"], strict=True)]
        return max(ways) / (after["time"] - before["time"])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answer(self):
        return json.loads(self.process.stdout.readline())


@contextmanager
def world():
    made = World()
    try:
        yield made
    finally:
        made.kill()


def main() -> None:
    from franky_sim import SimulationServer  # only in the process that has it
    from franky_sim.mujoco_simulator import MujocoSimulator

    with MujocoSimulator() as sim:
        arm = sim.add_robot(kv=DAMPING)
        cube = ET.SubElement(sim.worldbody, "body", name="cube", pos=" ".join(map(str, PLACE)))
        ET.SubElement(cube, "freejoint")
        half = " ".join([str(SIDE / 2)] * 3)
        ET.SubElement(cube, "geom", type="box", size=half, mass=str(MASS), friction="2 0.05 0.001", condim="4")
        with SimulationServer(sim) as server:
            server.run_async()
            say(arm.hostname)
            for _ in sys.stdin:
                cube, joints = sim.data.body("cube").xpos.tolist(), list(arm.inner_state.q)
                say({"time": sim.data.time, "cube": cube, "joints": joints})


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
