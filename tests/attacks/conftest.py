"""Fixtures of attacks: all of them are done on hosts of a test's own."""

from tests.network.conftest import hosts

__all__ = ["hosts"]
