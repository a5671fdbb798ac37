"""The scenarios by name. A module of scenarios is found by its file name, cases_*.py."""
import dataclasses
import importlib.util
import pathlib
import sys
from typing import Callable

from . import protocol

SCENARIOS = {}


class Skip(Exception):
    """What the machine lacks; ctest shows the test as skipped, with this text."""


@dataclasses.dataclass
class Scenario:
    name: str
    run: Callable
    timeout: int = 60
    users: tuple = ("root", "user")
    by_hand: bool = False  # ctest does not run it


def scenario(function=None, *, timeout=60, users=("root", "user"), by_hand=False):
    def add(run):
        name = run.__name__
        if name in SCENARIOS:
            raise ValueError("two scenarios are called " + name)
        SCENARIOS[name] = Scenario(name, run, timeout, users, by_hand)
        return run

    return add(function) if function else add


def case(name, cmd, *, timeout=60, users=("root", "user"), **how):
    """A scenario that is only data; see protocol.cold_warm_changed."""

    def run(t):
        protocol.cold_warm_changed(t, cmd, **how)

    run.__name__ = name
    scenario(run, timeout=timeout, users=users)


def load(directory):
    sys.path.insert(0, str(directory))  # what its scenarios share
    for path in sorted(pathlib.Path(directory).glob("cases_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    return SCENARIOS
