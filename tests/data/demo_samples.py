"""What the synthetic demonstrations of these tests are made of."""

import numpy as np

from ebt_policy.data.episodes import Episode

OSC_UNTIL_14 = {"type": "OSC_POSE", "input_max": 1, "input_min": -1, "damping": 1, "control_delta": True}
OSC_SINCE_15 = {"type": "OSC_POSE", "input_max": 1, "input_min": -1, "input_type": "delta", "input_ref_frame": "base"}
ENV_ARGS = {
    "v0.1": {
        "env_name": "Lift",
        "type": 1,
        "env_kwargs": {"robots": ["Panda"], "control_freq": 20, "controller_configs": OSC_UNTIL_14},
    },
    "v1.5": {
        "env_name": "Lift",
        "env_version": "1.5.1",
        "type": 1,
        "env_kwargs": {
            "robots": ["Panda"],
            "control_freq": 20,
            "controller_configs": {
                "type": "BASIC",
                "body_parts": {"right": OSC_SINCE_15 | {"gripper": {"type": "GRIP"}}},
            },
        },
    },
}
SHAPES = {"robot0_eef_pos": (3,), "robot0_eef_quat": (4,), "robot0_gripper_qpos": (2,), "object": (10,)}


def make_episode(rng, length, seed=0, **fields):
    obs = {key: rng.normal(size=(length, *shape)).astype(np.float32) for key, shape in SHAPES.items()}
    obs["robot0_eef_quat"] /= np.linalg.norm(obs["robot0_eef_quat"], axis=1, keepdims=True)
    action = rng.uniform(-1, 1, (length, 7)).astype(np.float32)
    usual = {
        "executed": np.clip(action + 0.1, -1, 1),
        "initial_state": rng.normal(size=32),
        "success": True,
        "seed": seed,
    }
    return Episode(obs, action, **(usual | fields))
