"""robomimic's own training and policies: an agent of ours acts as robomimic does, and says what it needs."""

import json

import numpy as np
import pytest
import torch
from tiny_runs import script

from ebt_policy.rollout.robomimic_agent import RobomimicAgent

EVAL = ("eval", "env=envs:Avoid-v0", "episodes=2", "processes=1", "max_steps=15", "video=false")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("anchor") / "run"
    script("anchor", "task=avoid", "updates=100", "batch=4", "horizon=3", f"out={out}")
    return out / "model.pth"


def test_its_policy_is_evaluated_like_any_other(trained, tmp_path):
    script(*EVAL, f"run={trained}", "trust=true", f"out={tmp_path}")
    result = json.loads((tmp_path / "eval.json").read_text())
    assert [episode["length"] for episode in result["episodes"]] == [15, 15]
    assert result["config"]["robomimic"]["rnn"]["enabled"] and result["config"]["robomimic"]["gmm"]["enabled"]
    assert (tmp_path / "report.html").exists()


def test_the_agent_acts_as_robomimic_does_and_repeats_with_its_seed(trained):
    from robomimic.utils.file_utils import policy_from_checkpoint

    observations = [{"tool": np.array([0.1 * k, -0.2], np.float32)} for k in range(5)]
    agent = RobomimicAgent(trained)
    agent.reset(7)
    actions = [agent.act(obs) for obs in observations]
    agent.reset(7)
    np.testing.assert_array_equal([agent.act(obs) for obs in observations], actions)
    policy, _ = policy_from_checkpoint(ckpt_dict=torch.load(trained, weights_only=True))
    torch.manual_seed(7)
    policy.start_episode()
    np.testing.assert_allclose([policy(obs) for obs in observations], actions)
    assert len(agent.chunks) == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "trust=true"),
        (["trust=true", "method.steps=3"], "leave out steps"),
        (["trust=true", "env=envs:Lift-v0"], "not what the policy was trained for"),
    ],
)
def test_what_does_not_fit_is_refused(trained, settings, message):
    with pytest.raises(SystemExit, match=message):
        script(*EVAL, f"run={trained}", *settings)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return print, ("code was run",)

    torch.save({"model": Code()}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="without running code"):
        RobomimicAgent(tmp_path / "model.pth")
