"""What envs/README.md uses of MetaWorld, for machines without it: a ball that pushes a handle along y."""

import mujoco
import numpy as np

XML = """<mujoco><option timestep="0.0025" gravity="0 0 0"/>
<worldbody><light pos="0 0.7 2"/><camera name="topview" pos="0 0.7 1"/>
<body name="hand" pos="0 0.85 0.09"><joint name="x" type="slide" axis="1 0 0" damping="20"/>
<joint name="y" type="slide" axis="0 1 0" damping="20"/><joint name="z" type="slide" axis="0 0 1" damping="20"/>
<geom type="sphere" size="0.02" rgba="1 0 0 1" group="1"/></body>
<body name="handle" pos="0 0.7 0.09"><joint type="slide" axis="0 1 0" damping="20"/>
<geom type="box" size="0.04 0.02 0.02" rgba="0 0 1 1" group="1"/></body></worldbody>
<actuator><position joint="x" kp="200"/><position joint="y" kp="200"/><position joint="z" kp="200"/></actuator>
</mujoco>"""


class Drawer:
    def __init__(self):
        self.model = mujoco.MjModel.from_xml_string(XML)
        self.data = mujoco.MjData(self.model)

    def seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self):
        mujoco.mj_resetData(self.model, self.data)
        self.model.body("handle").pos[0] = self.rng.uniform(-0.1, 0.1)
        mujoco.mj_forward(self.model, self.data)
        return self._seen(), {}

    def step(self, action):
        self.data.ctrl[:] = np.clip(self.data.ctrl + 0.01 * np.clip(action[:3], -1, 1), -0.4, 0.4)
        mujoco.mj_step(self.model, self.data, 5)
        mujoco.mj_forward(self.model, self.data)
        return self._seen(), 0.0, False, False, {"success": float(self.data.body("handle").xpos[1] < 0.6)}

    def _seen(self):
        places = [self.data.body("hand").xpos, [1.0], self.data.body("handle").xpos, np.zeros(32)]
        return np.concatenate(places)


class Pushes:
    def get_action(self, obs):
        hand, handle = obs[:3], obs[4:7]
        beside = abs(hand[0] - handle[0]) > 0.02
        return np.array([20 * (handle[0] - hand[0]), 0.0 if beside else -1.0, 0.0, -1.0], np.float32)


ALL_V3_ENVIRONMENTS, ENV_POLICY_MAP = {"drawer-open-v3": Drawer}, {"drawer-open-v3": Pushes}
