"""Disturbances: when they begin, what they change, whether they took effect, and that nothing is dropped silently."""

from dataclasses import replace
from functools import partial
from itertools import count

import gymnasium as gym
import numpy as np
import pytest
from toy_handling import TRAY, Picker, Tray

from envs import disturb
from envs.disturb import DISTURBANCES, Disturbed, Grasps, Noise, Open, Push, Stale, steps
from envs.lift import LiftExpert

INDEX = {d.name: i for i, d in enumerate(DISTURBANCES)}


def play(name, seed=1, speed=1.0, steps=120, **tray):
    """The last report, and the hand, the thing and the observation after every step, of an episode on the tray."""
    env, agent = Disturbed(Tray(**tray), INDEX[name]), Picker(speed)
    obs, _ = env.reset(seed=seed)
    hands, things, seen = [env.task.position], [env.task.thing], [obs]
    for _ in range(steps):
        obs, _, _, _, info = env.step(agent.act(obs))
        hands, things, seen = [*hands, env.task.position], [*things, env.task.thing], [*seen, obs]
        if info["success"]:
            break
    return info, np.array(hands), np.array(things), seen


def with_parts(monkeypatch, name, *parts):
    """Disturbance `name` with other parts."""
    changed = replace(DISTURBANCES[INDEX[name]], parts=parts)
    monkeypatch.setattr(disturb, "DISTURBANCES", [changed if d.name == name else d for d in DISTURBANCES])


def test_there_are_three_strengths_of_every_kind_and_a_number_for_none():
    kinds = {d.kind for d in DISTURBANCES} - {"none"}
    assert {(d.kind, d.strength) for d in DISTURBANCES[1:]} == {(k, s) for k in kinds for s in (1, 2, 3)}
    assert DISTURBANCES[0].name == "none" and len(INDEX) == len(DISTURBANCES)


TICKS = {  # control steps at 20 Hz, by strength: what committed results were made with
    "move": [(2,)] * 3,
    "turn": [(2,)] * 3,
    "open": [(10,), (20,), (80,)],
    "push": [(6,)] * 3,
    "noise": [(20,)] * 3,
    "freeze": [(10,), (20,), (30,)],
    "delay": [(100,)] * 3,
    "open_freeze": [(10, 10), (15, 20), (30, 30)],
    "push_noise": [(6, 20)] * 3,
}


@pytest.mark.parametrize(("hz", "times"), [(20, 1), (80, 4), (10, 0.5)])
def test_seconds_are_as_many_control_steps_as_the_rate_says(hz, times):
    for disturbance in DISTURBANCES[1:]:
        ticks = tuple(make(hz=hz).ticks for make in disturbance.parts)
        known = TICKS[disturbance.kind][disturbance.strength - 1]
        assert np.abs(np.subtract(ticks, np.multiply(known, times))).max() <= 0.5, disturbance.name
        lags = [part.lag for part in (make(hz=hz) for make in disturbance.parts) if isinstance(part, Stale)]
        if disturbance.kind == "delay":
            assert lags == [max(1, round((3, 6, 12)[disturbance.strength - 1] * times))]
    assert (steps(disturb.HELD, 20), steps(disturb.FIRM, 20), steps(1e-6, 20)) == (10, 3, 1)


class Quick(Tray):
    """Ten times as fast, and each of its steps a tenth as far."""

    def spec_dict(self):
        return super().spec_dict() | {"hz": 200.0}

    def step(self, action):
        return super().step(np.concatenate([0.1 * np.clip(action[:3], -1, 1), action[3:]]))


def test_what_counts_as_held_and_how_long_a_hand_is_open_does_not_depend_on_the_rate():
    reports = []
    for tray, hz in ((Tray(), 20), (Quick(), 200)):
        env, agent = Disturbed(tray, INDEX["freeze_1"]), Picker()
        obs, info = env.reset(seed=1)
        while info["report"]["over"] is None:
            obs, _, _, _, info = env.step(agent.act(obs))
        reports.append((info["report"]["trigger"] / hz, (info["report"]["over"] - info["report"]["trigger"]) / hz))
    assert reports[0][1] == reports[1][1] == 0.5
    assert reports[0][0] == pytest.approx(reports[1][0], abs=0.3)


@pytest.mark.parametrize(("after", "tick"), [(1.0, 10), (0.5, 5)])
def test_a_task_that_cannot_tell_of_grasps_is_disturbed_after_a_time_and_takes_what_needs_nothing(after, tick):
    push_t = gym.make("envs:PushT-v0")
    possible = [d.name for d in DISTURBANCES if not d.lacks(push_t)]
    assert possible == ["none", *(f"{kind}_{n}" for kind in ("noise", "freeze", "delay") for n in (1, 2, 3))]
    env = Disturbed(push_t, INDEX["freeze_1"], after=after)
    seen = [env.reset(seed=0)[0]["tool"]]
    for target in np.linspace(-1, 1, 25):
        obs, _, _, _, info = env.step(np.array([target, target]))
        seen.append(obs["tool"])
    assert (info["report"]["trigger"], info["report"]["over"], info["report"]["effect"]) == (tick, tick + 5, True)
    assert all(np.array_equal(seen[k], seen[tick]) for k in range(tick, tick + 6))
    assert not np.array_equal(seen[tick + 6], seen[tick])


def test_number_0_changes_nothing_and_counts_the_grasp():
    info, hands, things, _ = play("none")
    env, agent = Tray(), Picker()
    obs, _ = env.reset(seed=1)
    for hand in hands[1:]:
        obs, *_ = env.step(agent.act(obs))
        assert np.array_equal(env.position, hand)
    assert info["success"] and info["report"] == {
        "height": things[-1][2],  # of the tray itself
        "disturbance": "none",
        "index": 0,
        "trigger": None,
        "over": None,
        "effect": False,
        "grasps": 1,
        "retries": 0,
    }


def test_a_moved_thing_lies_as_far_away_as_it_says_from_the_step_after_the_trigger():
    info, hands, things, _ = play("move_2")
    trigger = info["report"]["trigger"]
    assert info["report"]["effect"] and info["report"]["over"] == trigger + 2
    assert np.array_equal(things[trigger], things[0])
    assert np.linalg.norm(things[trigger + 1] - things[0]) == pytest.approx(0.05)
    assert np.linalg.norm(hands[trigger] - things[trigger]) < disturb.NEAR
    assert info["success"]


def test_every_policy_meets_the_same_disturbance_whenever_it_triggers():
    fast, slow = play("move_3"), play("move_3", speed=0.4)
    triggers = [episode[0]["report"]["trigger"] for episode in (fast, slow)]
    moved = [things[t + 1] for (_, _, things, _), t in zip((fast, slow), triggers, strict=True)]
    assert triggers[0] < triggers[1]
    np.testing.assert_array_equal(*moved)


@pytest.mark.parametrize("name", [name for name in INDEX if name != "none"])
def test_what_is_drawn_depends_on_no_policy(name):
    drawn = []
    for speed in (1.0, 0.4):
        env, agent = Disturbed(Tray(), INDEX[name]), Picker(speed)
        obs, _ = env.reset(seed=3)
        while not env.active:
            obs, *_ = env.step(agent.act(obs))
        numbers = [getattr(part, name, None) for part in env.parts for name in ("ways", "turn", "direction", "noise")]
        drawn.append((env.report.trigger, env.rng.bit_generator.state, numbers))
    assert drawn[0][0] < drawn[1][0], "they are policies that get there at different times"
    assert drawn[0][1] == drawn[1][1]
    np.testing.assert_equal(drawn[0][2], drawn[1][2])


def test_other_seeds_and_other_numbers_give_other_disturbances():
    ways = [play(name, seed)[2] for name, seed in (("move_1", 1), ("move_1", 2), ("move_2", 1))]
    directions = [(t[-1] - t[0])[:2] / np.linalg.norm((t[-1] - t[0])[:2]) for t in ways]
    assert all(abs(a @ b) < 0.999 for a, b in ((directions[0], directions[1]), (directions[0], directions[2])))


def test_a_thing_without_room_stays_and_the_disturbance_counts_as_without_effect():
    info, _, things, _ = play("move_3", room=lambda position: False)
    assert info["report"]["trigger"] is not None and info["report"]["effect"] is False
    np.testing.assert_allclose(things[0][:2], things[-1][:2], atol=1e-6)


def test_a_thing_goes_where_there_is_room():
    _, _, things, _ = play("move_2", room=lambda position: position[0] > 0.03)
    assert things[-1][0] > 0.03


def test_a_turned_thing_is_turned_by_the_angle():
    env = Disturbed(Tray(), INDEX["turn_2"])
    obs, _ = env.reset(seed=1)
    info = {"report": {"over": None}}
    while info["report"]["over"] is None:
        obs, _, _, _, info = env.step(Picker().act(obs))
    assert abs(env.task.yaw) == pytest.approx(np.pi / 4) and info["report"]["effect"]


def test_an_opened_hand_drops_what_it_holds_and_the_second_grasp_is_a_retry():
    info, _, things, _ = play("open_2")
    report = info["report"]
    assert things[report["trigger"]][2] > 0.05 and things[report["trigger"] + 1][2] == 0
    assert report["effect"] and (report["grasps"], report["retries"]) == (2, 1) and info["success"]


def test_a_pushed_hand_is_where_the_force_brought_it():
    info, hands, _, _ = play("push_2")
    t, ticks = info["report"]["trigger"], 6
    expected = hands[t] + ticks * (hands[t] - hands[t - 1])
    assert info["report"]["effect"]
    assert np.linalg.norm((hands[t + ticks] - expected)[:2]) == pytest.approx(ticks * 100e-4, abs=0.012)


def test_a_push_too_weak_to_be_felt_is_triggered_and_without_effect(monkeypatch):
    with_parts(monkeypatch, "push_1", partial(Push, 0.1, 0.3))
    info, *_ = play("push_1")
    assert info["report"]["over"] is not None and not info["report"]["effect"]


def test_noise_is_that_of_the_generator_of_seed_and_index_and_spares_the_gripper(monkeypatch):
    with_parts(monkeypatch, "noise_1", partial(Noise, 0.1, 0.2))
    info, hands, things, _ = play("noise_1", seed=5, speed=0.5)
    t = info["report"]["trigger"]
    drawn = 0.1 * np.random.default_rng([5, INDEX["noise_1"]]).standard_normal((4, 7))
    np.testing.assert_allclose(hands[t + 1] - hands[t], 0.01 * (np.array([0, 0, 0.5]) + drawn[0, :3]), atol=1e-6)
    assert info["report"]["grasps"] == 1


def test_frozen_observations_are_the_last_one_seen_for_as_long_as_it_says(monkeypatch):
    with_parts(monkeypatch, "freeze_1", partial(Stale, 0.25, 0.25))
    info, hands, _, seen = play("freeze_1")
    t = info["report"]["trigger"]
    for step in range(t + 1, t + 6):
        assert np.array_equal(seen[step]["robot0_eef_pos"], seen[t]["robot0_eef_pos"])
    np.testing.assert_allclose(seen[t + 6]["robot0_eef_pos"], hands[t + 6], atol=1e-6)
    assert info["report"]["effect"] and info["report"]["over"] == t + 5


def test_delayed_observations_are_those_of_before_but_never_of_before_the_trigger(monkeypatch):
    with_parts(monkeypatch, "delay_1", partial(Stale, 0.1, 0.4))
    info, hands, _, seen = play("delay_1")
    t = info["report"]["trigger"]
    for step in range(t + 1, t + 9):
        np.testing.assert_allclose(seen[step]["robot0_eef_pos"], hands[max(step - 2, t)], atol=1e-6)


def test_a_combination_takes_effect_if_all_its_parts_do(monkeypatch):
    for force, effect in ((300, True), (0.1, False)):
        with_parts(monkeypatch, "push_noise_1", partial(Push, force, 0.15), partial(Open, 0.25))
        info, *_ = play("push_noise_1")
        assert info["report"]["effect"] is effect and info["report"]["over"] == info["report"]["trigger"] + 5


def test_a_predicate_that_never_holds_is_reported_as_such():
    env = Disturbed(Tray(), INDEX["open_3"])
    env.reset(seed=1)
    for _ in range(30):
        *_, info = env.step(np.zeros(7))
    assert info["report"]["trigger"] is None and info["report"]["over"] is None and not info["report"]["effect"]


def test_an_episode_that_ends_during_a_disturbance_has_met_it_if_it_took_effect_by_then():
    t = play("freeze_3")[0]["report"]["trigger"]
    early, late = (play("freeze_3", steps=steps)[0]["report"] for steps in (t, t + 10))
    assert early["trigger"] == late["trigger"] == t and early["over"] is late["over"] is None
    assert (early["effect"], late["effect"]) == (False, True)


def test_a_second_episode_starts_afresh():
    env, agent = Disturbed(Tray(), INDEX["move_1"]), Picker()
    ends = []
    for _ in range(2):
        obs, info = env.reset(seed=3)
        assert info["report"]["trigger"] is None
        for _ in range(40):
            obs, _, _, _, info = env.step(agent.act(obs))
        ends.append((info["report"], env.task.thing.tolist()))
    assert ends[0] == ends[1]


def test_flickering_contacts_are_one_grasp_and_a_real_loss_makes_the_next_a_retry():
    grasps = Grasps(firm=3)
    for touch in [*"1111101111", *"0011", *"0000", *"110111"]:
        grasps.update(touch == "1")
    assert grasps.taken == 2 and grasps.holding


def test_several_take_turns_from_seed_to_seed():
    indices = [INDEX[name] for name in ("move_1", "open_3", "delay_2")]
    env = Disturbed(Tray(), *indices)
    told = [env.reset(seed=seed)[1]["report"]["index"] for seed in range(30, 36)]
    assert told == indices * 2


def test_no_disturbance_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one disturbance, got none: 0 is the one that changes nothing"):
        Disturbed(Tray())


def test_a_thing_is_dropped_from_as_high_as_it_says_above_where_it_lay():
    info, _, things, _ = play("open_2")
    t = info["report"]["trigger"]
    assert things[t - 1][2] < disturb.HIGH <= things[t][2] and info["report"]["effect"]


@pytest.mark.parametrize("index", [-1, len(DISTURBANCES)])
def test_an_unknown_number_is_refused(index):
    with pytest.raises(ValueError, match=f"expected a disturbance from 0 to {len(DISTURBANCES) - 1}, got {index}"):
        Disturbed(Tray(), index)


def test_a_disturbance_that_the_task_lacks_is_refused_with_what_it_needs():
    handless = gym.make("toy_handling:Handless-v0").unwrapped
    with pytest.raises(ValueError, match="open_1 needs grasped, opening, which .*Handless.* does not have"):
        Disturbed(handless, INDEX["open_1"])
    with pytest.raises(ValueError, match="move_1 needs move_object, object_pose"):
        Disturbed(handless, INDEX["move_1"])
    Disturbed(handless, 0).reset(seed=0)


def test_a_reset_without_a_seed_is_refused():
    with pytest.raises(ValueError, match="expected a seed, got none"):
        Disturbed(Tray(), 0).reset()


def test_it_is_made_by_its_name_with_the_time_limit_that_it_is_given():
    env = gym.make("envs:Disturbed-v0", task=TRAY, indices=[0], max_episode_steps=7, disable_env_checker=True)
    env.reset(seed=0)
    ends = [env.step(np.zeros(7))[3] for _ in range(7)]
    assert ends == [False] * 6 + [True]


@pytest.fixture(scope="module")
def grasping(lift):
    """Lift, and a function that has the expert play it under a disturbance until a predicate on its report holds."""

    def until(name, done, seed=2, limit=200):
        env, expert = Disturbed(lift, INDEX[name]), LiftExpert()
        obs, _ = env.reset(seed=seed)
        expert.reset(np.random.default_rng(0))
        for step in count(1):
            obs, _, _, _, info = env.step(expert.act(obs))
            if done(info["report"]) or step == limit:
                return env, info["report"]

    return until


def test_robosuites_cube_is_moved_and_turned_and_rests_there(lift):
    lift.reset(seed=2)
    for _ in range(5):
        lift.step(np.zeros(7))  # it is let fall by a hair
    position, yaw = lift.object_pose()
    assert lift.move_object(np.array([0.03, -0.04]), 0.5)
    moved, turned = lift.object_pose()
    np.testing.assert_allclose(moved - position, [0.03, -0.04, 0], atol=1e-9)
    assert (turned - yaw) % (2 * np.pi) == pytest.approx(0.5)
    for _ in range(5):
        lift.step(np.zeros(7))
    np.testing.assert_allclose(lift.object_pose()[0], moved, atol=2e-3)
    scene = lift._scene()
    assert not lift.move_object(np.array([5.0, 0.0]), 0.0), "nothing holds it up there"
    assert np.array_equal(lift._scene(), scene)


def test_robosuites_hand_drops_the_cube_and_takes_it_again(grasping):
    env, report = grasping("open_3", lambda report: report["retries"] == 1)
    assert report["effect"] and report["retries"] == 1 and env.task.grasped()


def test_robosuites_arm_gives_way_to_a_push_and_is_left_alone_after_it(grasping):
    env, report = grasping("push_3", lambda report: report["over"] is not None)
    assert report["effect"] and not env.task._data.xfrc_applied.any()


def test_all_disturbances_work_in_all_three_tasks(environments, task):
    for index in range(len(DISTURBANCES)):
        Disturbed(environments[task].unwrapped, index)
    env = Disturbed(environments[task].unwrapped, 0)
    env.reset(seed=0)
    *_, info = env.step(np.zeros(7))
    assert info["report"]["grasps"] == 0 and not env.task.grasped()
    hand, way = env.task.hand()
    seen = env.obs["robot0_eef_pos"]
    np.testing.assert_allclose(hand, seen, atol=5e-3)
    np.testing.assert_allclose(env.task.object_pose()[0], env.obs["object"][:3], atol=1e-5)
