"""End-to-end tests with an oracle: every step also runs bare, in a copy, and must look the same."""
from .protocol import QUIET
from .registry import Skip, case, scenario
from .world import World
