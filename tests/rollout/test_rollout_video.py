"""Pictures of episodes: what is filmed, what is drawn along, and a clear word where nothing can be."""

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image
from toy_rollout import POINT, Point, Scripted, toy_agent

from ebt_policy.rollout.sim import make_env, rollout
from ebt_policy.rollout.timeline import LEFT, Timeline
from ebt_policy.rollout.video import BAND, WIDTH, RenderError, film, record, record_some


def test_a_video_has_a_frame_per_step_and_shows_the_episode_that_was_evaluated(tmp_path):
    (evaluated,) = rollout(toy_agent, POINT, [3])
    clip = record(toy_agent(), POINT, 3, tmp_path / "new" / "rollout.mp4")
    assert clip.log == evaluated
    assert clip.steps == list(range(evaluated.length + 10 + 1)) and clip.end == clip.steps[-1]
    assert clip.chunk_starts == list(range(0, clip.end, 4))
    with imageio.get_reader(tmp_path / "new" / "rollout.mp4") as video:
        assert video.count_frames() == len(clip.frames)
        assert video.get_meta_data()["size"] == (WIDTH, WIDTH * 96 // 128 + BAND)


def test_only_wanted_steps_are_rendered():
    clip = film(make_env(POINT, render_mode="rgb_array"), toy_agent(), 3, wanted={0, 2, 5})
    assert clip.steps == [0, 2, 5] and len(clip.frames) == 3
    assert not np.array_equal(clip.frames[0], clip.frames[2])


def test_the_timeline_fills_up_behind_its_cursor():
    (log,) = rollout(toy_agent, POINT, [3])
    timeline = Timeline(log, range(0, 20, 4), 20, WIDTH, BAND)
    start, half, end = (timeline.at(step) for step in (0, 10, 20))
    assert start.shape == (BAND, WIDTH, 3) and start.dtype == np.uint8
    middle = LEFT + (WIDTH - LEFT) // 2
    np.testing.assert_array_equal(half[:, : middle - 12], end[:, : middle - 12])
    assert half[:, middle + 12 :].sum() > end[:, middle + 12 :].sum()  # paler ahead of the cursor


def test_the_sheet_begins_with_the_failures_and_the_video_shows_a_success(tmp_path):
    settings = {"env_kwargs": {"radius": 0.04, "wind": 0.05}, "max_steps": 12}
    logs = rollout(toy_agent, POINT, range(8), **settings)
    assert 0 < sum(log.success for log in logs) < 8
    clips = record_some(toy_agent, POINT, logs, tmp_path, count=7, columns=3, **settings)
    assert [clip.log.success for clip in clips] == sorted(log.success for log in logs)[:7]
    assert all(clip.log in logs for clip in clips)
    assert (tmp_path / "rollout.mp4").stat().st_size > 1000
    assert Image.open(tmp_path / "contact.png").size[0] > 3 * 180


def test_an_agent_without_energies_or_chunks_is_filmed_too(tmp_path):
    clip = record(Scripted(), POINT, 0, tmp_path / "a.mp4")
    assert clip.log.energies == [] and (tmp_path / "a.mp4").exists()


def test_frames_of_an_environment_that_takes_no_size_are_resized(tmp_path):
    (clip,) = record_some(toy_agent, POINT, rollout(toy_agent, POINT, [3]), tmp_path, env_kwargs={"size": 480})
    assert clip.frames[0].shape == (96, 128, 3) and (tmp_path / "rollout.mp4").exists()


@pytest.mark.parametrize("frame", [np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), np.uint8)])
def test_what_is_no_picture_is_refused_with_what_came(tmp_path, monkeypatch, frame):
    monkeypatch.setattr("toy_rollout.Point.render", lambda self: frame)
    with pytest.raises(RenderError, match=r"expected Point-v0 to render \(H, W, 3\) uint8, got \(8, 8"):
        record(Scripted(), POINT, 0, tmp_path / "a.mp4")


def test_a_video_is_as_fast_as_the_environment_says_in_any_way(monkeypatch):
    monkeypatch.setitem(Point.metadata, "render_fps", None)
    env = make_env(POINT, render_mode="rgb_array")
    assert film(env, toy_agent(), 3, wanted={0}).fps == 20
    monkeypatch.setattr(Point, "spec_dict", lambda self: {"hz": 7.0}, raising=False)
    assert film(env, toy_agent(), 3, wanted={0}).fps == 7


def test_a_machine_that_cannot_render_says_so(tmp_path):
    with pytest.raises(RenderError, match="cannot render Point-v0: no display"):
        record(Scripted(), POINT, 0, tmp_path / "a.mp4", env_kwargs={"broken_gl": True})
    with pytest.raises(RenderError, match="cannot open toy_rollout:Nothing-v0"):
        record(Scripted(), "toy_rollout:Nothing-v0", 0, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_a_blank_picture_is_not_taken_for_a_rendering(tmp_path, monkeypatch):
    monkeypatch.setattr("toy_rollout.Point.render", lambda self: np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(RenderError, match="renders blank pictures"):
        record(Scripted(), POINT, 0, tmp_path / "a.mp4")
