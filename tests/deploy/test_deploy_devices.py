"""Keyboard on a pseudo-terminal; gamepad and SpaceMouse with a stand-in where their libraries begin."""

import os
import pty
import sys
import termios
from contextlib import suppress
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.devices.gamepad import Gamepad
from ebt_policy.deploy.devices.keyboard import Keyboard
from ebt_policy.deploy.devices.spacemouse import SILENT, SpaceMouse


@pytest.fixture
def terminal():
    person, computer = pty.openpty()
    yield person, computer
    for end in (person, computer):
        with suppress(OSError):
            os.close(end)


def test_a_key_pushes_for_a_while_and_the_last_of_two_opposite_ones_counts(terminal):
    person, computer = terminal
    clock = FakeClock()
    with Keyboard(clock, hold=0.1, file=computer) as keys:
        assert not keys.read().axes.any()
        os.write(person, b"wRu")
        np.testing.assert_array_equal(keys.read().axes, [1, 0, 1, 0, 0, 1])
        clock.time = 0.05
        os.write(person, b"s")
        np.testing.assert_array_equal(keys.read().axes, [-1, 0, 1, 0, 0, 1])
        clock.time = 0.12
        np.testing.assert_array_equal(keys.read().axes, [-1, 0, 0, 0, 0, 0])
        clock.time = 0.2
        assert not keys.read().axes.any()


def test_commands_are_read_once_and_the_terminal_is_given_back_as_it_was(terminal):
    person, computer = terminal
    before = termios.tcgetattr(computer)
    with Keyboard(FakeClock(), file=computer) as keys:
        assert termios.tcgetattr(computer) != before
        for typed, command in ((b"g", "grip"), (b" ", "halt"), (b"\n", "keep"), (b"\x7f", "discard"), (b"q", "quit")):
            os.write(person, typed)
            assert keys.read().commands == {command} and not keys.read().commands
    assert termios.tcgetattr(computer) == before


def test_a_terminal_that_hangs_up_quits_and_a_pipe_is_none(terminal):
    person, computer = terminal
    keys = Keyboard(FakeClock(), file=computer).__enter__()
    os.close(person)
    assert keys.read().commands == {"quit"}
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="expected a terminal on the standard input"):
        Keyboard(FakeClock(), file=reading).__enter__()
    os.close(reading), os.close(writing)


AXES = ("LEFTX", "LEFTY", "RIGHTX", "RIGHTY", "TRIGGERLEFT", "TRIGGERRIGHT")
BUTTONS = ("A", "B", "START", "BACK", "GUIDE", "DPAD_LEFT", "DPAD_RIGHT")


class Pad:
    """What SDL reports of a gamepad."""

    def __init__(self):
        self.axes, self.down, self.plugged = dict.fromkeys(range(len(AXES)), 0), set(), True

    def push(self, name, value):
        self.axes = dict.fromkeys(self.axes, 0) | {AXES.index(name): value}

    def attached(self):
        return self.plugged

    def get_axis(self, axis):
        return self.axes[axis]

    def get_button(self, button):
        return BUTTONS[button] in self.down

    def quit(self):
        self.plugged = False


@pytest.fixture
def pad(monkeypatch):
    pad, pygame, sdl, controller = Pad(), ModuleType("pygame"), ModuleType("pygame._sdl2"), SimpleNamespace()
    pygame.error = RuntimeError
    pygame.display, pygame.event = SimpleNamespace(init=lambda: None), SimpleNamespace(pump=lambda: None)
    pygame.quit = lambda: None
    for i, name in enumerate(AXES):
        setattr(pygame, f"CONTROLLER_AXIS_{name}", i)
    for i, name in enumerate(BUTTONS):
        setattr(pygame, f"CONTROLLER_BUTTON_{name}", i)
    controller.init, controller.get_count = lambda: None, lambda: 1
    controller.Controller, sdl.controller = lambda index: pad, controller
    monkeypatch.setitem(sys.modules, "pygame", pygame)
    monkeypatch.setitem(sys.modules, "pygame._sdl2", sdl)
    for name in ("SDL_VIDEODRIVER", "SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.setenv(name, "")
    return pad


@pytest.mark.parametrize(
    ("stick", "value", "axis", "push"),
    [
        ("LEFTY", -32768, 0, 1),  # SDL: up is negative
        ("LEFTX", 32767, 1, -1),
        ("TRIGGERRIGHT", 32767, 2, 1),
        ("TRIGGERLEFT", 32767, 2, -1),
        ("RIGHTY", -32768, 4, 1),
        ("RIGHTX", -32768, 5, 1),
        ("LEFTY", -18022, 0, 0.5),  # half of the way beyond the dead zone
        ("LEFTY", -3000, 0, 0),
    ],
)
def test_sticks_and_triggers_push_beyond_their_dead_zone(pad, stick, value, axis, push):
    pad.push(stick, value)
    with Gamepad() as device:
        np.testing.assert_allclose(device.read().axes, push * np.eye(6)[axis], atol=1e-3)


def test_buttons_of_a_gamepad_count_once_until_they_are_let_go(pad):
    with Gamepad() as device:
        pad.down = {"A", "DPAD_RIGHT"}
        hand = device.read()
        assert hand.commands == {"grip"} and hand.axes[3] == 1
        pad.down = {"A", "START"}
        assert device.read().commands == {"keep"}
        pad.down = set()
        assert not device.read().commands
        pad.down = {"A", "B", "BACK", "GUIDE"}
        assert device.read().commands == {"grip", "halt", "discard", "quit"}


def test_a_gamepad_that_is_absent_or_unplugged_is_an_error(pad):
    with pytest.raises(OSError, match="expected at least 2 gamepads, got 1: plug one in"):
        Gamepad(index=1).__enter__()
    with Gamepad() as device:
        pad.plugged = False
        with pytest.raises(OSError, match="the gamepad was unplugged"):
            device.read()


class Mouse:
    """What pyspacemouse offers of an open mouse: each read takes one report, which changes some of the state."""

    def __init__(self):
        self.state = SimpleNamespace(t=-1.0, x=0.0, y=0.0, z=0.0, roll=0.0, pitch=0.0, yaw=0.0, buttons=[0, 0])
        self.reports, self.closed = [], False

    def read(self):
        if self.reports:
            report = self.reports.pop(0)
            if isinstance(report, Exception):
                raise report
            vars(self.state).update(report, t=self.state.t + 1)
        return self.state

    def close(self):
        self.closed = True


class Gone(Exception):
    pass


@pytest.fixture
def mouse(monkeypatch):
    mouse, library, hid = Mouse(), ModuleType("pyspacemouse"), ModuleType("easyhid")
    library.AxisConvention, hid.HIDException = SimpleNamespace(ROS="ros"), Gone
    library.open = lambda axis_convention: mouse if axis_convention == "ros" else None
    monkeypatch.setitem(sys.modules, "pyspacemouse", library)
    monkeypatch.setitem(sys.modules, "easyhid", hid)
    return mouse


def test_all_reports_since_the_last_tick_count_and_small_ones_push_nothing(mouse):
    with SpaceMouse(dead=0.1) as device:
        mouse.reports = [{"x": 0.3, "y": 0.05}, {"yaw": -0.5, "roll": 0.05}, {"x": 0.6}]
        np.testing.assert_allclose(device.read().axes, [0.6, 0, 0, 0, 0, -0.5])
    assert mouse.closed


def test_a_mouse_that_falls_silent_has_been_let_go(mouse):
    with SpaceMouse() as device:
        mouse.reports = [{"z": 1.0}]
        assert [device.read().axes[2] for _ in range(SILENT + 1)] == [1.0] * SILENT + [0.0]


def test_buttons_of_a_mouse_count_once_and_one_that_is_gone_is_an_error(mouse):
    with SpaceMouse() as device:
        mouse.reports = [{"buttons": [1, 0]}]
        assert device.read().commands == {"grip"} and not device.read().commands
        mouse.reports = [{"buttons": [1, 1]}]
        assert device.read().commands == {"keep"}
        mouse.reports = [Gone("failed to read")]
        with pytest.raises(OSError, match=r"the SpaceMouse is gone \(failed to read\)"):
            device.read()


@pytest.mark.parametrize(("library", "device"), [("pygame", Gamepad), ("pyspacemouse", SpaceMouse)])
def test_a_library_that_is_not_installed_is_named_with_what_to_install(library, device, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"needs {library}.*pip install -e '.\[teleop\]'"):
        device().__enter__()
