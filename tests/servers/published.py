"""The vendors' SDKs as published models: single modules of them, read without the rest.

Whole they take seconds to import, and want libraries that nobody here needs (requirements/models.in
has them without). So their packages are made hollow: importable, but without code of their own.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec


def hollow(name: str, members: object = None) -> None:
    """Makes the package importable without running it. Whatever others import from it by name is
    `members`; its own modules are to be had as ever."""
    if name in sys.modules:
        return
    parent, _, last = name.rpartition(".")
    found = PathFinder.find_spec(name, sys.modules[parent].__path__ if parent else None)
    if found is None:
        raise RuntimeError(f"{name} is not installed: make setup-dev")
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = list(found.submodule_search_locations or ())
    module = module_from_spec(spec)
    if members is not None:
        def member(asked: str) -> object:
            if asked.startswith("__"):
                raise AttributeError(asked)
            return members

        vars(module)["__getattr__"] = member
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], last, module)
