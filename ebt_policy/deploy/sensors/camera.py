"""A camera of Linux (v4l2), or a video file played in real time over and over, as ffmpeg reads it.

    ffmpeg, a process --> frames (H, W, 3) --> a thread --> the newest

The time between the light and the picture's arrival is not known here: a policy sees pictures that are so much older
than the arm's position beside them. Not run on a camera: video files only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

from ebt_policy.deploy.clock import Clock
from ebt_policy.deploy.robot import RobotError

PATIENCE = 5.0  # s for the first picture, and for ffmpeg to end


@dataclass(frozen=True)
class CameraConfig:
    """Where pictures come from and how they are cut to what the policy was trained on; nothing is resized unasked."""

    source: str  # a device, such as /dev/v4l/by-id/..., or a video file
    shape: tuple[int, int, int]  # (H, W, 3) that is observed
    filter: str | None = None  # ffmpeg's, such as crop=480:480,scale=84:84
    size: str | None = None  # asked of a device, such as 640x480; None: its own
    rate: float | None = None  # 1/s asked of a device; None: its own
    silent: float = 0.5  # s without a new picture until the arm is held

    def __post_init__(self):
        if len(self.shape) != 3 or self.shape[-1] != 3 or self.silent <= 0:
            raise ValueError(f"expected a shape (H, W, 3) and a silence above 0 s, got {self}")


def connect(cfg: Mapping[str, Any], clock: Clock) -> Camera:
    return Camera(CameraConfig(**dict(cfg) | {"shape": tuple(cfg["shape"])}), clock)


class Camera:
    """Its newest picture (H, W, 3), bytes; RobotError on entering if there is none or if it has another shape."""

    def __init__(self, config: CameraConfig, clock: Clock):
        self.config, self.clock, self.shape = config, clock, config.shape

    def __enter__(self) -> Camera:
        self._newest, self._gone = None, ""
        self._left, self._shown = threading.Event(), threading.Event()
        frames = self._opened()
        self._thread = threading.Thread(target=self._follow, args=(frames,), daemon=True)
        self._thread.start()
        if not self._shown.wait(PATIENCE) or self._newest is None:
            self.__exit__()
            raise RobotError(f"expected pictures from {self.config.source}, got none: {self._gone or 'it is silent'}")
        return self

    def __exit__(self, *error) -> None:
        self._left.set()
        self._thread.join(PATIENCE)  # one that hangs in a dead device is left to the end of the process

    def read(self) -> np.ndarray:
        return self._newest

    def trouble(self) -> str:
        quiet = self.clock.now() - self._seen
        if not self._gone and quiet <= self.config.silent:
            return ""
        return f"{self.config.source} has shown nothing new for {quiet:.2f} s, {self._gone or 'is it busy?'}"

    def _opened(self) -> Iterator[bytes]:
        config = self.config
        if Path(config.source).is_char_device():
            asked = {"-framerate": config.rate, "-video_size": config.size}
            given = ["-f", "v4l2", "-fflags", "nobuffer", *(f"{x}" for kv in asked.items() if kv[1] for x in kv)]
        else:
            given = ["-re", "-stream_loop", "-1"]
        cut = ["-vf", config.filter] if config.filter else []
        frames = imageio_ffmpeg.read_frames(config.source, input_params=given, output_params=cut)
        try:
            width, height = next(frames)["size"]
        except OSError as error:
            raise RobotError(f"expected a camera or a video at {config.source}: {_last(error)}") from error
        if (height, width, 3) != config.shape:
            frames.close()
            raise RobotError(
                f"expected pictures of shape {config.shape} from {config.source}, got {(height, width, 3)}: "
                f"say how to cut them, such as filter: scale={config.shape[1]}:{config.shape[0]}"
            )
        return frames

    def _follow(self, frames: Iterator[bytes]) -> None:
        try:
            for frame in frames:
                self._newest = np.frombuffer(frame, np.uint8).reshape(self.shape)
                self._seen = self.clock.now()
                self._shown.set()
                if self._left.is_set():
                    return
            self._gone = "it has ended"
        except RuntimeError as error:
            self._gone = _last(error)
        finally:
            self._shown.set()
            frames.close()


def _last(error: Exception) -> str:
    """What ffmpeg said at the end of its log."""
    return str(error).strip().splitlines()[-1]
