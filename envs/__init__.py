"""Robot tasks as Gymnasium environments, most with a scripted expert: `gym.make("envs:Lift-v0")`; see README.md."""

import pkgutil
import warnings
from importlib import import_module

for _module in pkgutil.iter_modules(__path__):
    try:
        import_module(f"{__name__}.{_module.name}")  # a task's file registers its id
    except ModuleNotFoundError as _missing:
        if not _missing.name or _missing.name.split(".")[0] == __name__:
            raise
        warnings.warn(f"envs/{_module.name}.py is left out: {_missing}", stacklevel=2)  # the others work without it

from envs.env_args import from_env_args  # noqa: E402

__all__ = ["from_env_args"]
