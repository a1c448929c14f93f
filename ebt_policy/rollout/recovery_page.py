"""recover.html: how often policies recover, how they differ, and videos of the first cases that are beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ebt_policy.rollout import page, plots
from ebt_policy.rollout.recovery import kind
from ebt_policy.rollout.result import write_atomic
from ebt_policy.rollout.stats import SuccessRate

VIDEOS = "videos"  # folder beside the page: ninety of a policy are too much for one file
CASES = 10  # videos of a kind


def write_page(folder: Path, result: dict, video_note: str = "") -> Path:
    """folder/recover.html of the result of `recovery.collect`, with the videos that are at `video_path` in `folder`."""
    policies = result["policies"]
    kinds = list(dict.fromkeys(name for about in policies.values() for name in about["kinds"]))
    title = f"Recovery: {result['run']['env_id'].split(':')[-1]}"
    body = [
        f"<h1>{page.escape(title)}</h1>",
        page.note(f"{len(result['seeds'])} cases, the same initial states and disturbances for every policy"),
        page.section("Recovered, of the episodes in which a disturbance took effect", _violins(policies)),
        *(page.section(name, page.table(_rows(about))) for name, about in policies.items()),
        page.section("Differences on the same cases", page.table(dict(map(_difference, result["tests"])))),
        page.section("First cases", page.note(video_note), *(page.fold(k, _videos(folder, result, k)) for k in kinds)),
        page.section("What made this", page.table(result["run"] | result["hashes"] | result["versions"])),
    ]
    return write_atomic(folder / "recover.html", page.page(title, body))


def first_cases(result: dict, policy: str) -> dict[str, list[dict]]:
    """Kind -> its first disturbed episodes, in the order of their seeds."""
    found: dict[str, list[dict]] = {}
    for e in sorted(result["episodes"], key=lambda e: e["seed"]):
        if e["policy"] == policy and e["report"]["index"]:
            found.setdefault(kind(e["report"]["disturbance"]), []).append(e)
    return {name: episodes[:CASES] for name, episodes in found.items()}


def video_path(episode: dict) -> str:
    """Beside the page; the digest is that of the executed actions, so a video can be of no other episode."""
    return f"{VIDEOS}/{episode['report']['disturbance']}_{episode['seed']}_{episode['digest']}.mp4"


def _violins(policies: Mapping[str, dict]) -> str:
    counts = {name: about["all"] for name, about in policies.items()}
    rates = {name: SuccessRate(c["recovered"], c["took_effect"]) for name, c in counts.items() if c["took_effect"]}
    return page.image(plots.svg_uri(plots.success_violins(rates)), "posterior of the recovery rates") if rates else ""


def _rows(about: dict) -> dict[str, str]:
    cells = {"all": about["all"]} | about["kinds"] | about["cells"]
    return {"undisturbed": _undisturbed(about["all"])} | {name: _words(cell) for name, cell in cells.items()}


def _undisturbed(cell: dict) -> str:
    low, high = (100 * end for end in cell["undisturbed_interval"])
    retries = _or_none(cell["undisturbed_retries_per_episode"])
    return f"success {100 * cell['undisturbed']:.0f} % [{low:.0f}, {high:.0f}]; {retries} retries an episode"


def _words(cell: dict) -> str:
    retries = _or_none(cell["retries_per_episode"])
    return (
        f"{cell['text']}; of {cell['episodes']} episodes {cell['triggered']} triggered and {cell['took_effect']} took "
        f"effect; {_median(cell['steps_to_recover'])} steps from trigger to success (median), "
        f"{_median(cell['steps_lost'])} more than undisturbed, {retries} retries an episode"
    )


def _difference(test: dict) -> tuple[str, str]:
    low, high = (100 * end for end in test["interval"])
    text = (
        f"{100 * test['difference']:+.0f} points [{low:.0f}, {high:.0f}] on {test['shared']} cases, only one of both "
        f"succeeds on {test['only_one']} and {test['only_other']}; p {test['p']:.3g}, by Holm {test['p_holm']:.3g}"
    )
    return f"{test['scope']}: {test['one']} less {test['other']}", text


def _videos(folder: Path, result: dict, name: str) -> str:
    """The same case of all policies beside each other."""
    columns = [first_cases(result, policy)[name] for policy in result["policies"]]
    rows = ([_case(e) for e in row if (folder / video_path(e)).exists()] for row in zip(*columns, strict=True))
    return "".join(page.side_by_side(*row) for row in rows)


def _case(episode: dict) -> str:
    report, outcome = episode["report"], "success" if episode["success"] else "failure"
    trigger = "never triggered" if report["trigger"] is None else f"triggered at step {report['trigger']}"
    effect = "took effect" if report["effect"] else "took no effect"
    title = f"{episode['policy']}, {report['disturbance']}, seed {episode['seed']}"
    text = f"{title}: {trigger}, {effect}, {report['retries']} retries, {outcome} after {episode['length']} steps"
    return page.note(text) + page.video(video_path(episode))


def _median(quartiles: dict | None) -> str:
    return _or_none(quartiles and quartiles["median"])


def _or_none(value: float | None) -> str:
    return "no" if value is None else f"{value:.3g}"
