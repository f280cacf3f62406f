"""One image for all tests here, built by the Containerfile on a Debian tree that is imported."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.podman import Podman
from tests.support import ROOT, missing, need_root, tool
from tests.system.tree import debian, wheels

BASE = "localhost/base"
IMAGE = "localhost/udpservices"


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """What it stores is in memory."""
    need_root()
    tool("podman")
    tool("crun")
    if "overlay" not in Path("/proc/filesystems").read_text():
        missing("this kernel has no overlayfs")
    with Podman() as podman:
        yield podman


@pytest.fixture(scope="session")
def base(podman: Podman) -> tuple[str, ...]:
    """The words that build on a base which has Python, with wheels instead of a network."""
    tree = debian()
    podman.import_tree(tree, BASE)
    words = ("--build-arg", f"BASE={BASE}", "--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheels")
    return (*words, "--volume", f"{wheels(tree, 'metrics')}:/wheels:ro")


@pytest.fixture(scope="session")
def image(podman: Podman, base: tuple[str, ...]) -> str:
    """As docs/container.md builds it."""
    podman.build("--format", "docker", *base, "--tag", IMAGE, ROOT)
    return IMAGE
