"""Robot tasks as Gymnasium environments, each with a scripted expert: `gym.make("envs:Lift-v0")`."""

import pkgutil
from importlib import import_module

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")  # a task's file registers its id

from envs.env_args import from_env_args  # noqa: E402

__all__ = ["from_env_args"]
