"""The small model of the tests, as a fixture."""

from tests.unit.model_setup import setup

__all__ = ["setup"]
