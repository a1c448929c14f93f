"""A simulated Franka on loopback that speaks the arm's own protocol, in its own process, with a cube before it.

.venv-franka/bin/python tests/deploy/franka_world.py

Prints the arm's address. Then, for each line that it reads, what is true in the world. Ends when its input ends.

What it is not: it has no reflexes and no limits, its targets are met to 0.1 mm. Its joints are damped five times less
than is the simulator's default, with which they follow a tenth of a second behind.

Two things are set right, because a client starts each new motion from what the arm reports as commanded, and with
either of them wrong its commands run away when targets change at 20 Hz: by 0.06 m and 2.3 m within 20 s of nonsense.
  The simulator reports commanded velocities that lag by 20 ms, and as commanded accelerations those of its own joints
  or inverse kinematics. Here they are the differences of what was commanded.
  It steps whether or not its client has answered, and on a busy machine 3 % of the commands come too late and in
  pairs. Here it waits for the answer, as if the client were on a realtime kernel.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from contextlib import contextmanager

SIDE, MASS = 0.04, 0.05  # m, kg
DAMPING = (90.0, 90.0, 70.0, 70.0, 40.0, 40.0, 40.0)  # Nm s/rad
PATIENCE = 0.2  # s for a client to answer
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
        report_commands(arm)
        cube = ET.SubElement(sim.worldbody, "body", name="cube", pos=" ".join(map(str, PLACE)))
        ET.SubElement(cube, "freejoint")
        half = " ".join([str(SIDE / 2)] * 3)
        ET.SubElement(cube, "geom", type="box", size=half, mass=str(MASS), friction="2 0.05 0.001", condim="4")
        with SimulationServer(sim) as server:
            threading.Thread(target=run, args=(server,), daemon=True).start()
            say(arm.hostname)
            for _ in sys.stdin:
                cube, joints = sim.data.body("cube").xpos.tolist(), list(arm.inner_state.q)
                say({"time": sim.data.time, "cube": cube, "joints": joints})


def report_commands(arm) -> None:
    """Velocities and accelerations "as commanded" are those of the commands."""
    from franky_sim.base_simulator import TrackedStateComponent

    told = arm._tracked_state_components
    for component in told.values():
        for derivative in component.observers.values():
            derivative._alpha = 0.0  # not smoothed
    for acceleration, velocity in (("O_ddP_EE_c", "O_dP_EE_c"), ("ddq_d", "dq_d")):
        derivative = told[velocity].observers["fd"]
        told[acceleration] = TrackedStateComponent(
            lambda time, state, derivative=derivative: derivative.last_derivative, depends_on=(told[velocity],)
        )


def run(server) -> None:
    while True:
        for arm in server.robot_servers:
            commands = arm._FrankaServer__udp_socket
            if commands is not None and arm.current_motion_id:
                select.select([commands], [], [], PATIENCE)
        server.run_once()


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
