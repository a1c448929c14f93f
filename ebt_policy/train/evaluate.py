"""One evaluation of a trained run: its policy in its environment, from numbered initial states, to a report."""

from __future__ import annotations

import hashlib
import warnings
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from ebt_policy.rollout.agent import ChunkedAgent
from ebt_policy.rollout.report import write_report
from ebt_policy.rollout.result import evaluate, flops_per_chunk, versions, write_result
from ebt_policy.rollout.sim import EpisodeLog
from ebt_policy.rollout.video import RenderError, record_some
from ebt_policy.train.build import load_config, load_policy

TRAINING_FILES = ("train.jsonl", "config.yaml")


def load_agent(run: str, act: dict) -> ChunkedAgent:
    """An agent over the policy of a run; a module-level function, so that worker processes can make their own."""
    return ChunkedAgent(load_policy(run, **act))


def evaluate_run(cfg: DictConfig) -> tuple[dict, Path]:
    """Roll out as configs/eval.yaml says; returns the result and the folder with eval.json and report.html."""
    run = Path(cfg.run)
    trained = load_config(run)
    _check_simulator(trained.spec.simulator, cfg.strict)
    act = {k: v for k, v in OmegaConf.to_container(cfg.method).items() if v is not None} | (
        {"execute": cfg.execute} if cfg.execute else {}
    )
    make_agent = partial(load_agent, str(run), act)
    policy = make_agent().policy  # fails here, before any process starts, if it cannot be loaded
    settings = {"env_id": cfg.env or trained.task.env, "max_steps": cfg.max_steps}
    seeds = range(cfg.first_seed, cfg.first_seed + cfg.episodes)
    with tqdm(total=cfg.episodes, unit="episode", desc="rollouts") as bar:
        result = evaluate(
            make_agent,
            **settings,
            seeds=seeds,
            processes=cfg.processes,
            on_episode=_Counter(bar),
            flops=flops_per_chunk(policy),
            config={"act": str(policy.model.act), "horizon": str(policy.horizon)} | _shown(trained),
            hashes={"weights": sha256(run / "weights.safetensors"), "data": trained.data.hash},
        )
    folder = Path(cfg.out or run / "eval")
    write_result(folder / "eval.json", result)
    note = _film(make_agent, settings, result, folder) if cfg.video else "not asked for (video=true)"
    for name in TRAINING_FILES:  # the report shows the training as well
        if (run / name).exists() and folder.resolve() != run.resolve():
            (folder / name).write_bytes((run / name).read_bytes())
    write_report(folder, video_note=note)
    return result, folder


def _film(make_agent, settings: dict, result: dict, folder: Path) -> str:
    """Video and contact sheet; returns why there are none, or an empty string."""
    episodes = [EpisodeLog(**episode, latency=[]) for episode in result["episodes"]]
    try:
        record_some(make_agent, episodes=episodes, folder=folder, env_kwargs={"size": 480}, **settings)
    except RenderError as error:
        warnings.warn(f"no video: {error}", stacklevel=2)
        return str(error)
    return ""


def sha256(path: Path) -> str:
    """Hash of a file, as in the `hashes` of a result."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Counter:
    def __init__(self, bar: tqdm):
        self.bar, self.successes = bar, 0

    def __call__(self, log: EpisodeLog) -> None:
        self.successes += log.success
        self.bar.update()
        self.bar.set_postfix_str(f"{self.successes} of {self.bar.n} succeeded")


def _shown(trained: DictConfig) -> dict:
    return {key: OmegaConf.to_container(trained[key]) for key in ("method", "net", "horizon", "fit")}


def _check_simulator(recorded: dict[str, str], strict: bool) -> None:
    here = versions()
    other = [f"{name} {old}, here {here.get(name)}" for name, old in recorded.items() if here.get(name) != old]
    if other and strict:
        raise ValueError(f"the data was recorded with {'; '.join(other)}: install that, or set strict=false")
    if other:
        warnings.warn(f"the data was recorded with {'; '.join(other)}: success rates may differ", stacklevel=3)
