"""Frames of a MuJoCo scene without a window: by EGL where a probe finds that it works, else by OSMesa."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
from importlib import import_module

import mujoco
import numpy as np

SIZE = 480  # pixels, the side of a frame that nobody asks another size of: as wide as a video
BACKENDS = ("egl", "osmesa")
VISUAL, COLLISION = 1, 0  # robosuite's geom groups
BALL = """<mujoco><worldbody><light pos="0 0 3"/><camera name="eye" pos="0 0 2"/>
<geom type="sphere" size=".3" rgba="1 0 0 1" group="1"/></worldbody></mujoco>"""


@functools.cache
def working_backend() -> str:
    """The first backend that draws a picture; tried in processes of their own, as a broken driver can end one.

    MUJOCO_GL, if set, is the only one tried. RuntimeError if none works.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    failures = []
    for backend in [wanted] if wanted else BACKENDS:
        environment = os.environ | {"PYOPENGL_PLATFORM": backend}
        command = [sys.executable, "-P", __file__, backend]
        probe = subprocess.run(command, env=environment, capture_output=True, text=True)
        if probe.returncode == 0:
            return backend
        failures.append(f"{backend}: {(probe.stderr.strip().splitlines() or ['crashed'])[-1]}")
    raise RuntimeError(
        f"no way to render without a window ({'; '.join(failures)}): install EGL (apt install libegl1 libgl1) or "
        "OSMesa (apt install libosmesa6)"
    )


class Renderer:
    """Draws square frames of one model through one camera; no shadows and reflections, which cost most of a frame."""

    def __init__(self, model: mujoco.MjModel, size: int, camera: str, backend: str | None = None):
        """RuntimeError if there is no way to render, ValueError if the model has no such camera."""
        names = [model.camera(i).name for i in range(model.ncam)]
        if camera not in names:
            raise ValueError(f"expected a camera of {', '.join(names)}, got {camera!r}")
        backend = backend or working_backend()
        os.environ.setdefault("PYOPENGL_PLATFORM", backend)
        model.vis.global_.offwidth, model.vis.global_.offheight = size, size
        model.vis.quality.offsamples = 0
        self._model, self._size = model, size
        self._gl = import_module(f"mujoco.{backend}").GLContext(size, size)
        self._gl.make_current()
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option = mujoco.MjvOption()
        self._option.geomgroup[VISUAL], self._option.geomgroup[COLLISION] = True, False
        self._camera = mujoco.MjvCamera()
        self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, names.index(camera)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        atexit.register(self.close)  # registered after the display's own end, so it comes before it

    def frame(self, data: mujoco.MjData) -> np.ndarray:
        """What the camera sees, (size, size, 3) uint8, first row on top."""
        self._gl.make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, everything, self._scene)
        viewport = mujoco.MjrRect(0, 0, self._size, self._size)
        mujoco.mjr_render(viewport, self._scene, self._context)
        pixels = np.empty((self._size, self._size, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, viewport, self._context)
        return np.flipud(pixels).copy()

    def close(self):
        atexit.unregister(self.close)
        self._gl.make_current()
        self._context.free()
        self._gl.free()


class Rendered:
    """What environments with a `_model` and its `_data` share: frames on request, and no graphics before the first."""

    def _set_view(self, render_mode: str | None, size: int, camera: str):
        """Frames are `size` pixels square. ValueError for a mode that there is not."""
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"expected render_mode None or 'rgb_array', got {render_mode!r}: there is no window here")
        self.render_mode, self.size, self.camera = render_mode, size, camera
        self._renderer: Renderer | None = None

    def render(self) -> np.ndarray | None:
        """The present frame (size, size, 3) uint8; the first call opens a graphics context, nothing else does."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = Renderer(self._model, self.size, self.camera)
        return self._renderer.frame(self._data)

    def close(self):
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


if __name__ == "__main__":  # the probe: a blank frame is what a null context draws
    ball = mujoco.MjModel.from_xml_string(BALL)
    state = mujoco.MjData(ball)
    mujoco.mj_forward(ball, state)
    sys.exit(0 if Renderer(ball, 32, "eye", sys.argv[1]).frame(state).std() > 1 else "the frame is blank")
