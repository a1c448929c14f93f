"""Serve a trained policy to robots.

python scripts/serve.py run=assets/checkpoints/ebt_lift port=8765
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import hydra
from omegaconf import DictConfig

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.deploy.planner import LocalPlanner
from ebt_policy.deploy.serve import Address, PolicyServer
from ebt_policy.train.build import load_policy
from ebt_policy.train.evaluate import sha256


@hydra.main(config_path="../configs", config_name="serve", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    address = Address(cfg.host, cfg.port, cfg.token)
    act = {} if cfg.policy.steps is None else {"steps": cfg.policy.steps}
    policy = load_policy(cfg.run, **act)
    policy.spec = policy.spec.stating(cfg.policy.hz, cfg.policy.action)
    model = sha256(Path(cfg.run) / "weights.safetensors")
    asyncio.run(serve(PolicyServer(LocalPlanner(policy, model, cfg.policy.continuity, cfg.policy.warm), address)))


async def serve(server: PolicyServer) -> None:
    """Until Ctrl-C, a kill or a terminal that hangs up; the plan at work is finished first."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(name, stop.set)
    listening = await server.start()
    terms, address = server.planner.terms, server.address
    print(
        f"serving {terms.model[:12]} at ws://{address.host}:{address.port}, observations {', '.join(terms.spec['obs'])}"
    )
    await stop.wait()
    listening.close()
    await listening.wait_closed()
    print(f"{server.served} plans served, {server.refused} connections refused")


if __name__ == "__main__":
    explain("serve", __doc__)
    main()
