"""The recovery benchmark: what its numbers are, what it compares, and what it refuses to."""

import json
import runpy
from functools import partial

import pytest
from hydra import compose, initialize_config_dir
from tiny_runs import ROOT, compose_train
from toy_handling import TRAY, Picker

from ebt_policy.rollout.recovery import collect, compare, read_recovery, recovery
from ebt_policy.rollout.result import evaluate
from ebt_policy.rollout.sim import rollout
from ebt_policy.train.run import train_run
from envs.disturb import DISTURBANCES

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "recover.py"))
INDEX = {d.name: i for i, d in enumerate(DISTURBANCES)}


def episode(seed, success, *, effect=True, trigger=30, length=90, retries=1, cell="open_1"):
    over = None if trigger is None else trigger + 5
    report = {"disturbance": cell, "index": INDEX[cell], "trigger": trigger, "over": over}
    return {"seed": seed, "success": success, "length": length} | {
        "report": report | {"effect": effect, "grasps": 1 + retries, "retries": retries}
    }


EPISODES = [
    episode(0, True, length=90),
    episode(1, True, length=100, retries=3),
    episode(2, False, length=400, retries=0),
    episode(3, True, effect=False),
    episode(4, False, effect=False, trigger=None, length=400),
]


def cell(episodes, **changes):
    fixed = {"run": {"env_id": TRAY, "max_steps": 120, "after_success": 0}, "seeds": [e["seed"] for e in episodes]}
    fixed |= {"versions": {"mujoco": "3.3.0", "commit": "abc"}, "hashes": {"weights": "w", "disturbances": "d"}}
    return fixed | {"config": {}, "episodes": episodes} | changes


def test_the_recovery_rate_is_of_the_episodes_that_were_hit_and_the_others_are_counted():
    found = recovery(EPISODES)
    assert (found["episodes"], found["triggered"], found["took_effect"]) == (5, 4, 3)
    assert found["recovered"] == 2 and found["recovery_rate"] == pytest.approx(2 / 3)
    assert found["interval"] == pytest.approx([0.0943, 0.9916], abs=1e-4)  # Clopper-Pearson of 2 in 3
    assert found["median_steps_to_recover"] == 65 and found["retries_per_episode"] == pytest.approx(4 / 3)
    assert found["success"] == pytest.approx(3 / 5)


def test_where_nothing_took_effect_there_is_no_rate():
    found = recovery([EPISODES[3], EPISODES[4]])
    assert found["recovery_rate"] is None and found["interval"] is None and found["text"] == "never took effect"
    undisturbed = recovery([episode(i, True, effect=False, trigger=None, cell="none") for i in range(4)])
    assert undisturbed["text"] == "4/4 = 100 % [40, 100] undisturbed"


def test_two_runs_are_compared_on_the_seeds_that_were_hit_in_both():
    one = collect({"open_1": cell([episode(i, True) for i in range(8)] + [episode(8, True, effect=False)])})
    other = collect({"open_1": cell([episode(i, i < 2) for i in range(9)])})
    (test,) = compare(one, other).values()
    assert (test["shared"], test["only_one"], test["only_other"]) == (8, 6, 0)
    assert test["difference"] == pytest.approx(0.75)
    assert test["p"] == test["p_holm"] == pytest.approx(2 / 2**6)


def test_undisturbed_episodes_are_all_compared_and_holm_corrects_over_the_cells():
    def run(undisturbed, opened):
        none = [episode(i, ok, effect=False, trigger=None, cell="none") for i, ok in enumerate(undisturbed)]
        return collect({"none": cell(none), "open_1": cell([episode(i, ok) for i, ok in enumerate(opened)])})

    tests = compare(run([True] * 8, [True] * 8), run([False] * 7 + [True], [False] * 6 + [True] * 2))
    assert tests["none"]["shared"] == 8
    assert [t["p"] for t in tests.values()] == pytest.approx([2 / 2**7, 2 / 2**6])
    assert [t["p_holm"] for t in tests.values()] == pytest.approx([4 / 2**7, 2 / 2**6])


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"seeds": [0, 1, 2, 3, 5]}, r"seeds \[0, 1, 2, 3, 4\] and \[0, 1, 2, 3, 5\]"),
        ({"versions": {"mujoco": "3.2.0"}}, "mujoco 3.3.0 and 3.2.0"),
        ({"hashes": {"weights": "w", "disturbances": "e"}}, "disturbances d and e"),
        ({"run": {"env_id": TRAY, "max_steps": 90, "after_success": 0}}, "max_steps 120 and 90"),
    ],
)
def test_runs_of_other_states_versions_or_disturbances_are_not_compared(changes, complaint):
    one, other = (collect({"open_1": cell(EPISODES, **c)}) for c in ({}, changes))
    with pytest.raises(ValueError, match=f"same benchmark, got {complaint}: run both again"):
        compare(one, other)


def test_runs_of_other_weights_and_commits_are_compared():
    changes = {"hashes": {"weights": "v", "disturbances": "d"}, "versions": {"mujoco": "3.3.0", "commit": "def"}}
    one, other = (collect({"open_1": cell(EPISODES, **c)}) for c in ({}, changes))
    assert compare(one, other)["open_1"]["p"] == 1.0


def disturbed(name, seeds, processes=1):
    settings = {"max_steps": 120, "env_kwargs": {"task": TRAY, "indices": [INDEX[name]]}, "after_success": 0}
    return rollout(partial(Picker, 0.5), "envs:Disturbed-v0", seeds, processes=processes, **settings)


def test_two_processes_disturb_as_one_does():
    alone = disturbed("move_2", [1, 2, 3])
    assert disturbed("move_2", [1, 2, 3], processes=2) == alone
    assert all(log.report["disturbance"] == "move_2" and log.report["effect"] for log in alone)


def test_a_scripted_hand_recovers_from_every_drop():
    settings = {"max_steps": 120, "env_kwargs": {"task": TRAY, "indices": [INDEX["open_1"]]}, "after_success": 0}
    result = evaluate(Picker, "envs:Disturbed-v0", range(5), **settings)
    found = recovery(result["episodes"])
    assert found["recovered"] == found["took_effect"] == 5 and found["retries_per_episode"] == 1


def recover(*settings):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("recover", [*settings])


@pytest.fixture(scope="module")
def measured(store, tmp_path_factory):
    """A run that has hardly been trained, disturbed on the tray."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    train_run(compose_train(run, store, updates=2))
    settings = [f"run={run}", f"env={TRAY}", "processes=1", "episodes=2", "kinds=[none,move]", "strengths=[1,3]"]
    SCRIPT["measure"](recover(*settings))
    return run, settings


def test_the_script_writes_every_cell_and_their_sum(measured):
    run, _ = measured
    result = read_recovery(run / "recover")
    assert list(result["cells"]) == ["none", "move_1", "move_3"] and len(result["episodes"]) == 6
    assert result["run"] == {"env_id": TRAY, "max_steps": 120, "after_success": 0}
    assert {"weights", "data", "disturbances"} <= set(result["hashes"]) and "mujoco" in result["versions"]
    page = (run / "recover" / "recover.html").read_text()
    assert "move_3" in page and "://" not in page


def test_cells_that_are_there_are_not_run_again_but_for_other_settings(measured, capsys):
    run, settings = measured
    path = run / "recover" / "cells" / "move_1.json"
    kept = json.loads(path.read_text())
    kept["summary"]["text"] = "not run again"
    path.write_text(json.dumps(kept))
    SCRIPT["measure"](recover(*settings))
    assert json.loads(path.read_text())["summary"]["text"] == "not run again"
    SCRIPT["measure"](recover(*settings, "method.steps=3"))
    assert json.loads(path.read_text())["summary"]["text"] != "not run again"


def test_the_script_compares_two_runs(measured, capsys):
    run, _ = measured
    SCRIPT["tell"](run, run / "recover")
    assert "none" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="found none: run scripts/recover.py run=... first"):
        SCRIPT["tell"](run, run / "nowhere")


def test_videos_of_the_first_cases_lie_beside_the_page(measured, tmp_path):
    _, settings = measured
    SCRIPT["measure"](
        recover(*settings[:3], "episodes=1", "kinds=[move]", "max_steps=20", "video=true", f"out={tmp_path}")
    )
    assert (tmp_path / "videos" / "move_3_70000.mp4").stat().st_size > 1000
    assert 'src="videos/move_3_70000.mp4"' in (tmp_path / "recover.html").read_text()


@pytest.mark.parametrize("settings", ["kinds=[quake]", "strengths=[4]", "kinds=[]"])
def test_a_kind_or_strength_that_there_is_not_is_refused(settings):
    cfg = recover(settings)
    with pytest.raises(ValueError, match="expected kinds"):
        SCRIPT["chosen"](cfg.kinds, cfg.strengths)
