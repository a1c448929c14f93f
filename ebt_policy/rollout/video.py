"""Rollouts to look at: an mp4 with the energy of the plans drawn along, and several episodes on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ebt_policy.rollout.agent import Agent
from ebt_policy.rollout.plots import BAD, GOOD, INK
from ebt_policy.rollout.sim import EpisodeLog, make_env, one_thread, rate, run_episode
from ebt_policy.rollout.timeline import Timeline

WIDTH, BAND = 480, 132  # pixels: a video's width, and the height of the timeline under its picture
UNTOLD = 20.0  # frames a second of environments that do not say how fast they are
THUMB, LABEL = 180, 24  # pixels: the width of a picture on a contact sheet, and the height of a row's label


class RenderError(RuntimeError):
    """This machine or environment cannot make pictures; everything else still works."""


@dataclass(frozen=True)
class Clip:
    """Pictures of one episode."""

    log: EpisodeLog
    end: int  # the last control step
    steps: list[int]  # control step of each frame; 0 is the initial state
    frames: list[np.ndarray]  # (H, W, 3) uint8
    chunk_starts: list[int]  # control step at which each chunk was planned
    fps: float  # control steps a second


def record(agent: Agent, env_id: str, seed: int, path: str | Path, **settings: Any) -> Clip:
    """Render episode `seed` to an mp4. `settings`: max_steps, env_kwargs, after_success as of `rollout`."""
    (clip,) = record_all(agent, env_id, {path: seed}, **settings)
    return clip


def record_all(
    agent: Agent, env_id: str, paths: Mapping[str | Path, int], *, after_success: int = 10, **settings: Any
) -> Iterator[Clip]:
    """Render episodes to mp4s, one after the other as they are asked for: path -> seed, `settings` as of `record`."""
    with _rendering(env_id, **settings) as env:
        for path, seed in paths.items():
            clip = film(env, agent, seed, after_success)
            write_video(path, clip)
            yield clip


def record_some(
    make_agent: Callable[[], Agent],
    env_id: str,
    episodes: Sequence[EpisodeLog],
    folder: str | Path,
    *,
    count: int = 6,
    columns: int = 6,
    after_success: int = 10,
    **settings: Any,
) -> list[Clip]:
    """folder/rollout.mp4 of the first success (or failure, if there is none) and folder/contact.png of `count`
    episodes, failures first. `settings`: max_steps, env_kwargs as of `rollout`. RenderError if nothing can be drawn.
    """
    on_sheet = sorted(episodes, key=lambda log: log.success)[:count]
    star = next((log for log in episodes if log.success), on_sheet[0])
    with _rendering(env_id, **settings) as env:
        agent = make_agent()
        whole = film(env, agent, star.seed, after_success)
        write_video(Path(folder) / "rollout.mp4", whole)
        clips = [
            whole if log.seed == star.seed else film(env, agent, log.seed, after_success, _spaced(log, columns))
            for log in on_sheet
        ]
    contact_sheet(clips, Path(folder) / "contact.png", columns)
    return clips


def film(env: gym.Env, agent: Agent, seed: int, after_success: int = 10, wanted: Collection[int] | None = None) -> Clip:
    """Play episode `seed` and render it: after every step, or only after those `wanted`."""
    frames, steps, starts, last = [], [], [], 0

    def look(step: int) -> None:
        nonlocal last
        starts.extend([last] * (len(agent.chunks) - len(starts)))  # planned before this step
        last = step
        if wanted is None or step in wanted:
            frames.append(_render(env))
            steps.append(step)

    log = run_episode(env, agent, seed, after_success, on_step=look)
    return Clip(log, last, steps, frames, starts, float(rate(env) or UNTOLD))


def write_video(path: str | Path, clip: Clip) -> None:
    """An mp4 (H.264) that browsers play, with the timeline under the picture."""
    height = _even(clip.frames[0].shape[0] * WIDTH / clip.frames[0].shape[1])
    timeline = Timeline(clip.log, clip.chunk_starts, clip.end, WIDTH, BAND)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with imageio.get_writer(path, fps=clip.fps, codec="libx264", quality=7, macro_block_size=2) as video:
        for step, frame in zip(clip.steps, clip.frames, strict=True):
            video.append_data(np.concatenate([_resized(frame, WIDTH, height), timeline.at(step)]))


def contact_sheet(clips: Sequence[Clip], path: str | Path, columns: int = 6) -> None:
    """A row of pictures per episode, equally spaced in time, under its seed and outcome."""
    first = clips[0].frames[0]
    height = round(first.shape[0] * THUMB / first.shape[1])
    sheet = Image.new("RGB", (columns * (THUMB + 4) + 4, len(clips) * (height + LABEL + 8) + 4), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for row, clip in enumerate(clips):
        top = 4 + row * (height + LABEL + 8)
        draw.text((6, top), f"seed {clip.log.seed}", fill=INK, font=font)
        draw.text((110, top), _outcome(clip.log), fill=GOOD if clip.log.success else BAD, font=font)
        shown = max(sum(step <= clip.log.length for step in clip.steps) - 1, 0)  # up to the success
        for column, i in enumerate(np.linspace(0, shown, columns).round().astype(int)):
            left = 4 + column * (THUMB + 4)
            sheet.paste(Image.fromarray(_resized(clip.frames[i], THUMB, height)), (left, top + LABEL))
            _tag(draw, left, top + LABEL, str(clip.steps[i]), font)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


@contextmanager
def _rendering(env_id: str, max_steps: int | None = None, env_kwargs: dict | None = None) -> Iterator[gym.Env]:
    """The environment, once it has shown that it renders; what is played in it goes as it went in `rollout`."""
    try:
        env = _open(env_id, max_steps, {"render_mode": "rgb_array"} | (env_kwargs or {}))
        env.reset(seed=0)
    except Exception as error:  # whatever a missing GL library raises; state-only work never comes here
        raise RenderError(f"cannot open {env_id} for rendering: {_words(error)}") from error
    with closing(env), one_thread():
        frame = _render(env)
        if frame.min() == frame.max():
            raise RenderError(f"{env_id} renders blank pictures: its OpenGL context is not a real one")
        yield env


def _open(env_id: str, max_steps: int | None, settings: dict[str, Any]) -> gym.Env:
    """With frames of a `size` where it can be chosen; other frames are resized."""
    try:
        return make_env(env_id, max_steps, **settings)
    except TypeError:
        if "size" not in settings:
            raise
        return make_env(env_id, max_steps, **{name: value for name, value in settings.items() if name != "size"})


def _render(env: gym.Env) -> np.ndarray:
    try:
        frame = env.render()
    except Exception as error:
        raise RenderError(f"cannot render {env.spec.id}: {_words(error)}") from error
    if not isinstance(frame, np.ndarray) or frame.shape[2:] != (3,) or frame.dtype != np.uint8:
        got = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise RenderError(f"expected {env.spec.id} to render (H, W, 3) uint8, got {got}")
    return frame


def _tag(draw: ImageDraw.ImageDraw, left: int, top: int, text: str, font) -> None:
    """A number that is legible on any picture."""
    draw.rectangle((left, top, left + draw.textlength(text, font=font) + 8, top + 19), fill="white")
    draw.text((left + 3, top + 1), text, fill=INK, font=font)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _spaced(log: EpisodeLog, columns: int) -> set[int]:
    return set(np.linspace(0, log.length, columns).round().astype(int).tolist())


def _outcome(log: EpisodeLog) -> str:
    if not log.success:
        return f"failure, {log.length} steps"
    return f"success after {log.length} steps" + ("" if log.success_end else ", then lost")


def _resized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def _even(x: float) -> int:
    """Video codecs want even sides."""
    return 2 * round(x / 2)
