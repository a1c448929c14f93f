"""One evaluation of a trained run: its policy in its environment, from numbered initial states, to a report."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any

import gymnasium as gym
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from ebt_policy import bounds
from ebt_policy.data.robomimic import arm_controller, infer_spec
from ebt_policy.data.spec import UNKNOWN, Spec
from ebt_policy.rollout.agent import Agent, ChunkedAgent
from ebt_policy.rollout.evaluation import evaluate
from ebt_policy.rollout.flops import flops_per_chunk
from ebt_policy.rollout.replan import RedrawingAgent, ReplanningAgent
from ebt_policy.rollout.report import write_report
from ebt_policy.rollout.result import write_result
from ebt_policy.rollout.robomimic_agent import RobomimicAgent
from ebt_policy.rollout.sim import EpisodeLog, make_env
from ebt_policy.rollout.video import RenderError, record_some
from ebt_policy.train.build import environment, load_config, load_policy

TRAINING_FILES = ("train.jsonl", "config.yaml")
RECORDED = "envs:Recorded-v0"  # made with the env_args of a data set
UNITS = ("input_min", "input_max", "output_min", "output_max", "input_type", "input_ref_frame")  # of a controller
ROBOMIMIC = ".pth"  # how its checkpoints end


@dataclass(frozen=True)
class Subject:
    """What is measured: an agent, the environment it was trained for, and what their result says about itself."""

    make_agent: Callable[[], Agent]
    settings: dict[str, Any]  # of `rollout`: env_id, max_steps
    described: dict[str, Any]  # of `evaluate`: flops, config, hashes


def load_agent(
    run: str, act: dict, replan: float | None = None, redraw: float | None = None, warm: float | None = None
) -> ChunkedAgent:
    """An agent over the policy of a run; a module-level function, so that worker processes can make their own."""
    if None not in (replan, redraw):
        raise ValueError(f"expected replan or redraw, got replan={replan:g} and redraw={redraw:g}: leave one out")
    policy = load_policy(run, **act)
    if replan is not None:
        return ReplanningAgent(policy, replan, warm)
    return ChunkedAgent(policy, warm) if redraw is None else RedrawingAgent(policy, redraw, warm)


def subject(cfg: DictConfig) -> Subject:
    """The run of configs/eval.yaml; fails here, before any process starts, if it cannot be loaded or does not fit."""
    run = Path(cfg.run)
    if run.suffix == ROBOMIMIC:
        return _anchor(cfg)
    trained = load_config(run)
    act = OmegaConf.to_container(cfg.method) | {"execute": cfg.execute, "compile": cfg.compile}
    act = {name: value for name, value in act.items() if value is not None}
    make_agent = partial(load_agent, str(run), act, cfg.replan, cfg.redraw, cfg.warm)
    policy = make_agent().policy
    settings = environment_of(policy.spec, cfg.env, trained, cfg.max_steps, cfg.strict)
    config = {"act": str(policy.model.act), "horizon": str(policy.horizon)} | _shown(trained, cfg)
    hashes = {"weights": sha256(run / "weights.safetensors"), "data": trained.data.hash}
    return Subject(make_agent, settings, {"flops": flops_per_chunk(policy), "config": config, "hashes": hashes})


def _anchor(cfg: DictConfig) -> Subject:
    """A checkpoint of robomimic; ValueError unless it is trusted, fits its environment, and nothing is set."""
    set_here = {k: v for k, v in OmegaConf.to_container(cfg.method).items() if v is not None}
    set_here |= {k: cfg[k] for k in ("execute", "replan", "redraw", "warm", "compile") if cfg[k]}
    if set_here:
        raise ValueError(f"a policy of robomimic acts as it was trained, leave out {', '.join(set_here)}")
    if not cfg.trust:
        raise ValueError(f"{cfg.run} decides which classes of robomimic are built: set trust=true if you trust it")
    make_agent = partial(RobomimicAgent, cfg.run)
    agent = make_agent()
    spec = infer_spec(agent.env_args, agent.obs, agent.dim)
    settings = environment_of(spec, cfg.env, None, cfg.max_steps, cfg.strict)
    described = {"config": {"robomimic": agent.settings}, "hashes": {"weights": sha256(Path(cfg.run))}}
    return Subject(make_agent, settings, described)


def evaluate_run(cfg: DictConfig) -> tuple[dict, Path]:
    """Roll out as configs/eval.yaml says; returns the result and the folder with eval.json and report.html."""
    run = Path(cfg.run).parent if Path(cfg.run).suffix == ROBOMIMIC else Path(cfg.run)
    folder = Path(cfg.out or run / "eval")
    if (folder / "weights.safetensors").exists() and folder.resolve() != run.resolve():
        raise ValueError(f"out={folder} holds another run, whose config and log would be replaced: give another folder")
    bounds.whole("episodes", cfg.episodes, "[1, inf)")
    bounds.whole("first_seed", cfg.first_seed, "[0, 9e18]")
    measured = subject(cfg)
    seeds = range(cfg.first_seed, cfg.first_seed + cfg.episodes)
    with tqdm(total=cfg.episodes, unit="episode", desc="rollouts") as bar:
        result = evaluate(
            measured.make_agent,
            **measured.settings,
            **measured.described,
            seeds=seeds,
            processes=cfg.processes,
            on_episode=_Counter(bar),
        )
    write_result(folder / "eval.json", result)
    note = _film(measured.make_agent, measured.settings, result, folder) if cfg.video else "not asked for (video=true)"
    for name in TRAINING_FILES:  # the report shows the training as well
        if (run / name).exists() and folder.resolve() != run.resolve():
            (folder / name).write_bytes((run / name).read_bytes())
    write_report(folder, video_note=note)
    return result, folder


def environment_of(
    spec: Spec, named: str | None, trained: DictConfig | None, max_steps: int | None = None, strict: bool = False
) -> dict[str, Any]:
    """Where a policy for data of `spec` is measured, as settings of `rollout`: env_id, max_steps and env_kwargs.

    named: the user's choice, checked and taken. None: the task's of the run's config `trained`; but data that says by
    env_args that it was recorded in another one, such as a robomimic file, is measured in that one. ValueError where
    observations or actions mean something else than in the data.
    """
    if named is None and trained is None:
        if max_steps is None:
            raise ValueError("expected max_steps=<control steps of an episode>, such as 400, or env=<environment>")
        return _as_recorded(spec, recorded_in(spec.env_args), max_steps, strict)
    env_id = named or environment(trained)
    says, limit = described(env_id, max_steps)
    if spec.env_args.get("env_kwargs") and says.get("env_args") != spec.env_args:
        recorded = _recorded_elsewhere(spec, env_id, named is None)
        if named is None:
            name = spec.env_args["env_name"]
            warnings.warn(f"measured in {name} as the data describes it: {env_id} differs", stacklevel=3)
            return _as_recorded(spec, recorded, limit, strict)
        _check_layout(recorded.get("env_args", {}), says.get("env_args", {}), named)
    elif "object" in spec.obs and "object_order" in says.get("env_args", {}) and "object_order" not in spec.env_args:
        order = says["env_args"]["object_order"]
        warnings.warn(f"the data does not say how `object` is laid out, {env_id} has it {order}", stacklevel=3)
    check_meaning(spec, says, env_id, strict)
    return {"env_id": env_id, "max_steps": max_steps}


def _recorded_elsewhere(spec: Spec, env_id: str, needed: bool) -> dict[str, Any]:
    """What the environment of the data says of itself; nothing if it cannot be made here, unless it is needed."""
    try:
        return recorded_in(spec.env_args)
    except ValueError as error:
        if needed:
            raise ValueError(f"{error}; if {env_id} is the same, say env={env_id}") from error
        warnings.warn(f"{error}: whether {env_id} means the same cannot be checked", stacklevel=4)
        return {}


def _as_recorded(spec: Spec, says: dict[str, Any], max_steps: int, strict: bool) -> dict[str, Any]:
    check_meaning(spec, says, f"{spec.env_args.get('env_name')} of the data", strict)
    return {"env_id": RECORDED, "max_steps": max_steps, "env_kwargs": {"env_args": spec.env_args}}


def described(env_id: str, max_steps: int | None = None, **kwargs: Any) -> tuple[dict[str, Any], int]:
    """What an environment says of itself, with the shapes of its spaces under obs and action, and its time limit.
    ValueError if there is none."""
    try:
        env = make_env(env_id, max_steps, **kwargs)
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"expected an environment such as envs:Lift-v0, got {env_id!r}: {error}") from error
    with closing(env):
        spaces = getattr(env.observation_space, "spaces", {})
        says = env.get_wrapper_attr("spec_dict")() if env.has_wrapper_attr("spec_dict") else {}
        action = says.get("action", {}) | {"dim": prod(env.action_space.shape or ())}
        obs = {key: tuple(space.shape) or (1,) for key, space in spaces.items()}
        return says | {"obs": obs, "action": action}, env.spec.max_episode_steps


def recorded_in(env_args: dict[str, Any]) -> dict[str, Any]:
    """What the environment of a data set says of itself; ValueError if it cannot be made here."""
    try:
        return described(RECORDED, max_steps=1, env_args=env_args)[0]
    except ValueError as error:
        name = env_args.get("env_name", "unknown")
        raise ValueError(f"the data was recorded in {name}, which cannot be made here: {error}") from error


def check_meaning(spec: Spec, says: dict[str, Any], env_id: str, strict: bool = False) -> None:
    """ValueError unless observations and actions mean in an environment, by what it says, what they mean in the data.

    Another task or another version of the simulator is a warning, with `strict` an error. What one of both does not
    say is not compared.
    """
    here = says["obs"]
    wrong = [f"observation {k} {v}, here {here.get(k, 'missing')}" for k, v in spec.obs.items() if here.get(k) != v]
    wrong += [f"action {text}" for text in _unlike(asdict(spec.action), says["action"])]
    wrong += _unlike({"hz": spec.hz}, says)
    if wrong:
        raise ValueError(
            f"{env_id} is not what the policy was trained for: {'; '.join(wrong)}: set env=<its environment>"
        )
    other = _unlike({"env_name": spec.env_args.get("env_name")}, says.get("env_args", {}))
    other += _unlike(spec.simulator, {name: _installed(name) for name in spec.simulator})
    if other and strict:
        raise ValueError(f"the data was recorded with {'; '.join(other)}: use that, or set strict=false")
    if other:
        warnings.warn(f"the data was recorded with {'; '.join(other)}: success rates may differ", stacklevel=3)


def _check_layout(recorded: dict[str, Any], here: dict[str, Any], env_id: str) -> None:
    """ValueError where numbers of the same shape mean something else; both are env_args as this package writes them."""
    wrong = _unlike({"object_order": recorded.get("object_order")}, here)
    arms = [arm_controller((args.get("env_kwargs") or {}).get("controller_configs")) for args in (recorded, here)]
    wrong += _unlike(*({name: arm.get(name) for name in UNITS} for arm in arms))
    if wrong:
        raise ValueError(
            f"{env_id} lays out or scales its numbers otherwise than the data: {'; '.join(wrong)}: leave env out, and "
            "the environment of the data is taken"
        )


def _unlike(trained: dict, here: dict) -> list[str]:
    """What both know, and the environment otherwise."""
    both = [k for k in trained if trained[k] not in UNKNOWN and here.get(k) not in UNKNOWN]
    return [f"{k} {trained[k]}, here {here[k]}" for k in both if trained[k] != here[k]]


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _film(make_agent, settings: dict, result: dict, folder: Path) -> str:
    """Video and contact sheet; returns why there are none, or an empty string."""
    episodes = [EpisodeLog(**episode, latency=[]) for episode in result["episodes"]]
    try:
        record_some(make_agent, episodes=episodes, folder=folder, **settings)
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


def _shown(trained: DictConfig, cfg: DictConfig) -> dict:
    shown = {key: OmegaConf.to_container(trained[key]) for key in ("method", "net", "horizon", "fit")}
    shown |= {"compile": cfg.compile, "replan": cfg.replan}
    return shown | {key: cfg[key] for key in ("redraw", "warm") if cfg[key] is not None}
