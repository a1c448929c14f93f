"""Every experiment and every method that a config names composes, builds, trains and acts, at the smallest size."""

import pytest
import torch
from tiny_runs import ROOT, compose_train

from ebt_policy.data.store import open_episodes
from ebt_policy.data.windows import WindowDataset
from ebt_policy.train.build import load_config, load_policy
from ebt_policy.train.log import read_log
from ebt_policy.train.run import train_run

OTHER_KINDS = ("text_", "image_")  # of tasks, with tests of their own


def names(group):
    stems = sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml"))
    return [stem for stem in stems if not stem.startswith(OTHER_KINDS)]


HUBER = "{_target_: ebt_policy.core.PseudoHuber, width: 0.1}"
VARIANTS = {  # what the comments in the configs offer
    "scalar head": ["method.model.head._target_=ebt_policy.core.Scalar"],
    "dot product": ["method.model.head._target_=ebt_policy.core.DotProduct"],
    "residual": ["method.model.head._target_=ebt_policy.core.Residual"],
    "replay": ["method.replay={_target_: ebt_policy.core.ReplayBuffer, share: 0.5}"],
    "pseudo-Huber": [f"+method.model.objective.criterion={HUBER}"],
    "pseudo-Huber, flow": ["method=flow", f"+method.model.criterion={HUBER}"],
    "pseudo-Huber, MIP": ["method=mip", f"+method.model.criterion={HUBER}"],
    "pseudo-Huber, diffusion": ["method=diffusion", f"+method.model.criterion={HUBER}"],
    "two steps, last": ["method.model.train_walk.steps=2"],
    "two steps, through": ["method.model.train_walk.steps=2", "method.model.train_walk.backprop=through"],
    "ddim": ["method=diffusion", "method.model.act.steps=10", "method.model.act.sampler=ddim"],
}


def trains_and_acts(run, store, *overrides):
    cfg = compose_train(run, store, *overrides, "fit.compile=false", "fit.log_every=1", updates=2)
    train_run(cfg)
    assert [row["update"] for row in read_log(run / "train.jsonl")] == [1, 2]
    policy = load_policy(run)
    obs = WindowDataset(open_episodes(store), 2, 4).batch(torch.arange(3)).obs
    actions = policy.predict_action(obs).actions
    assert actions.shape == (3, 2, 7) and torch.isfinite(actions).all()


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_trains_and_acts(store, tmp_path, experiment):
    trains_and_acts(tmp_path, store, f"experiment={experiment}")


@pytest.mark.parametrize("method", names("method"))
def test_every_method_trains_and_acts(store, tmp_path, method):
    trains_and_acts(tmp_path, store, f"method={method}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_that_the_configs_offer_trains_and_acts(store, tmp_path, variant):
    trains_and_acts(tmp_path, store, *VARIANTS[variant])


@pytest.mark.parametrize("checkpoint", sorted(p.parent.name for p in ROOT.glob("assets/checkpoints/*/config.yaml")))
def test_every_committed_checkpoint_loads_and_acts(checkpoint):
    run = ROOT / "assets" / "checkpoints" / checkpoint
    assert load_config(run, "robot").run.startswith("runs/")  # no path of whoever trained it
    policy = load_policy(run)
    obs = {key: torch.rand(1, policy.horizon.observe, *shape) for key, shape in policy.spec.obs.items()}
    assert torch.isfinite(policy.predict_action(obs, torch.Generator().manual_seed(0)).actions).all()


@pytest.mark.parametrize("task", names("task"))
@pytest.mark.parametrize("net", names("net"))
def test_every_task_and_net_composes(store, tmp_path, task, net):
    cfg = compose_train(tmp_path, store, f"task={task}")
    assert cfg.task.name == task and cfg.task.env.startswith("envs:")
    with_net = compose_train(tmp_path, store, f"net={net}")
    assert with_net.net.dim % with_net.net.heads == 0
