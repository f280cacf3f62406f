"""Which tests a run of the suite has: ``pytest --mode NAME``. The Makefile has a line for each mode.

What boots a system, or has an environment of its own, is in none of them: `addopts` in ``pyproject.toml``.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

#: What takes long: attacks, deaths of workers, releases, and the tests of benchmarks and of other people's installers.
LONG = (
    "attacks",
    "workers",
    "packaging/test_release.py",
    "packaging/test_tools.py",
    "packaging/test_workflows.py",
    "services/test_floods.py",
    "test_benchmarks.py",
    "test_sizing.py",
)
NOT_LONG = ("workers/test_serving.py",)

#: What does not depend on how datagrams are read and sent, and is not tried again in other modes.
ONCE = (
    "applications",
    "command",
    "library",
    "observe",
    "options",
    "packaging",
    "aio",
    "reactors",
    "workers",
    "endpoints/test_activation.py",
    "endpoints/test_grammar.py",
    "net/test_descriptors.py",
    "net/test_resolve.py",
    "network/test_membership.py",
    "policy/test_intervals.py",
    "policy/test_limits.py",
    "policy/test_networks.py",
    "policy/test_prefixes.py",
    "policy/test_reasons.py",
    "runtime/log",
    "runtime/test_arguments.py",
    "runtime/test_connections.py",
    "runtime/test_hooks.py",
    "runtime/test_stream.py",
    "services/test_bundle.py",
    "services/test_bundle_mistakes.py",
    "services/test_clashes.py",
    "services/test_defaults.py",
    "services/test_few_descriptors.py",
    "services/test_hello.py",
    "services/test_hello_names.py",
    "services/test_hello_once.py",
    "services/test_serve.py",
    "services/test_stream_clients.py",
    "services/test_streams.py",
    "transport/test_counters.py",
    "test_benchmarks.py",
    "test_commands.py",
    "test_daemon.py",
    "test_docs.py",
    "test_injected_faults.py",
    "test_sizing.py",
    "test_types.py",
    "test_units.py",
)

#: Of no use where nothing comes in segments: the guard's tests, and those of groups, to which no flow goes.
GUARD = ("attacks", "fuzz", "policy", "network/test_guard.py", "network/test_limits.py")
GROUPS = (
    "network/test_broadcast.py",
    "network/test_multicast.py",
    "services/test_broadcast.py",
    "services/test_multicast.py",
    "transport/test_multicast.py",
)

#: What depends on Twisted's own code.
OLDEST = (
    "aio",
    "endpoints",
    "foreign",
    "observe/web",
    "policy",
    "reactors",
    "runtime",
    "services",
    "transport",
    "test_daemon.py",
    "test_maker.py",
    "test_testing.py",
)


def _within(path: Path, names: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(name) for name in names)


def _is_long(path: Path) -> bool:
    return _within(path, LONG) and not _within(path, NOT_LONG)


#: The modes: whether a file, relative to this folder, is in one.
MODES: dict[str, Callable[[Path], bool]] = {
    "unit": lambda path: not _is_long(path),
    "long": _is_long,
    "unbatched": lambda path: not _within(path, ONCE),
    "batched": lambda path: _within(path, ("attacks", "foreign", "policy", "transport")),
    "unsegmented": lambda path: not _within(path, ONCE + GUARD + GROUPS),
    "oldest": lambda path: _within(path, OLDEST),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Called by pytest."""
    parser.addoption("--mode", choices=list(MODES), help="run the tests of this mode, see tests/modes.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Called by pytest: True leaves a file out."""
    mode = config.getoption("--mode")
    is_file = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    if mode is None or not is_file or not collection_path.is_relative_to(TESTS):
        return None
    return not MODES[mode](collection_path.relative_to(TESTS)) or None
