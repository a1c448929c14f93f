"""From a checkpoint to an arm: a robot, what keeps it safe, what is due when, and the policy behind a socket.

    cameras, arm -> Robot <- SafeRobot <- control <- Scheduler <- Link <- LocalPlanner or RemotePlanner ~~> server

Nothing here knows which method the policy is. Whatever a robot's computer needs imports numpy, websockets and msgpack
and no torch; only `planner` does, where the policy is.
"""
