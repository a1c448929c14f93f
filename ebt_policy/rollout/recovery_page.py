"""recover.html: the recovery rate of every disturbance, and videos of the first cases if there are any beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ebt_policy.rollout import page, plots
from ebt_policy.rollout.recovery import read_recovery
from ebt_policy.rollout.result import write_atomic
from ebt_policy.rollout.stats import SuccessRate

VIDEOS = "videos"  # folder beside the page: ninety of them are too much for one file


def write_page(folder: Path, videos: Mapping[str, Sequence[int]], video_note: str = "") -> Path:
    """folder/recover.html from folder/recover.json. videos: cell -> seeds whose video is at `video_path`."""
    result = read_recovery(folder)
    rates = {
        name: SuccessRate(c["recovered"], c["took_effect"]) for name, c in result["cells"].items() if c["took_effect"]
    }
    violins = (
        page.image(plots.svg_uri(plots.success_violins(rates)), "posterior of the recovery rates") if rates else ""
    )
    kinds = [page.fold(name, "".join(_case(result, name, seed) for seed in seeds)) for name, seeds in videos.items()]
    title = f"Recovery: {result['run']['env_id'].split(':')[-1]}"
    body = [
        f"<h1>{page.escape(title)}</h1>",
        page.note(f"{len(result['seeds'])} initial states, the same disturbances for every policy"),
        page.section("Recovered, of the episodes in which the disturbance took effect", violins, _cells(result)),
        page.section("First cases", page.note(video_note), *kinds),
        page.section("What made this", page.table(result["run"] | result["hashes"] | result["versions"])),
    ]
    return write_atomic(folder / "recover.html", page.page(title, body))


def video_path(cell: str, seed: int) -> str:
    """Beside the page."""
    return f"{VIDEOS}/{cell}_{seed}.mp4"


def _cells(result: dict) -> str:
    return page.table({name: _words(cell) for name, cell in result["cells"].items()})


def _words(cell: dict) -> str:
    return (
        f"{cell['text']}; of {cell['episodes']} episodes {cell['triggered']} triggered and {cell['took_effect']} took "
        f"effect; {_or_none(cell['median_steps_to_recover'])} steps from trigger to success (median), "
        f"{_or_none(cell['retries_per_episode'])} retries an episode; success {100 * cell['success']:.0f} %"
    )


def _case(result: dict, cell: str, seed: int) -> str:
    episode = next(e for e in result["episodes"] if (e["report"]["disturbance"], e["seed"]) == (cell, seed))
    report, outcome = episode["report"], "success" if episode["success"] else "failure"
    trigger = "never triggered" if report["trigger"] is None else f"triggered at step {report['trigger']}"
    effect = "took effect" if report["effect"] else "took no effect"
    text = f"seed {seed}: {trigger}, {effect}, {report['retries']} retries, {outcome} after {episode['length']} steps"
    return page.note(text) + page.video(video_path(cell, seed))


def _or_none(value: float | None) -> str:
    return "no" if value is None else f"{value:.3g}"
