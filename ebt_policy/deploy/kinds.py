"""Which module of a package a YAML means: its `kind` is the module's name, so that adding one is adding a file."""

import pkgutil
from importlib import import_module
from types import ModuleType


def find(package: str, kind: str) -> ModuleType:
    """The module `kind` of a package; ValueError for one that there is not, or that is private."""
    path = import_module(package).__path__
    known = sorted(module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_"))
    if kind not in known:
        raise ValueError(f"expected one of {package}, {', '.join(known)}, got kind {kind!r}")
    return import_module(f"{package}.{kind}")
