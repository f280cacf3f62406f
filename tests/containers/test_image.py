"""The image of the Containerfile serves with the least of rights, is asked for its health, and stops when told."""

import json
import re

import pytest

from tests.containers.conftest import BASE
from tests.containers.podman import HARDENED, Container, Podman
from tests.support import ROOT, wait_until

#: What the image adds to its base, at most, in bytes; docs/container.md tells the size.
MOST = 80_000_000


def serves(container: Container) -> None:
    container.wait_for("listening on [::]:9999/udp")
    assert container.ask(b"hello") == b"hello"


def test_it_answers_without_rights(podman: Podman, image: str) -> None:
    """As a user who is not root, with a root that nobody may write to, and without a capability."""
    with podman.container(image) as container:
        serves(container)
        status = container.status()
        assert status["Uid"].split() == ["65532"] * 4
        assert status["Gid"].split() == ["65532"] * 4
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        for folder in ("/", "/tmp", "/run", "/opt/udpservices"):
            written = container.run("touch", f"{folder}/file")
            assert "Read-only file system" in written.stderr, folder
        assert "rror" not in container.log


def test_it_is_the_first_process_and_stops_when_told(podman: Podman, image: str) -> None:
    with podman.container(image) as container:
        serves(container)
        assert container.run("cat", "/proc/1/comm").stdout == "udpservices\n"
        assert container.stop() == 0
        assert re.search(r"udpecho stopped: 1 received, 1 answered, 0 dropped", container.log)


def test_it_drains(podman: Podman, image: str) -> None:
    """And then ends, well before it would be killed."""
    with podman.container(image, "udpecho", "--port", "9999", "--drain", "1s") as container:
        serves(container)
        assert container.stop() == 0
        assert "draining for 1 s" in container.log


def test_its_health_is_asked_for(podman: Podman, image: str) -> None:
    """By its own command, over UDP: a service that hangs is not well."""
    with podman.container(image) as container:
        serves(container)
        wait_until(container.is_healthy, "its health")
        podman.does("kill", "--signal", "STOP", container.name)
        assert not container.is_healthy()
        podman.does("kill", "--signal", "CONT", container.name)
        wait_until(container.is_healthy, "its health again")


def test_other_commands(podman: Podman, image: str) -> None:
    """The words after the image's name are a command of udpservices, or a mistake."""
    assert "udpecho" in podman.does("run", "--rm", *HARDENED, "--network=none", "--cgroups=disabled", image, "--help")


def test_a_port_below_1024(podman: Podman, image: str) -> None:
    options = (*HARDENED, "--sysctl", "net.ipv4.ip_unprivileged_port_start=0")
    with podman.container(image, "udpecho", "--port", "7", options=options) as container:
        container.wait_for("listening on [::]:7/udp")
        assert container.ask(b"hello", port=7) == b"hello"


def test_workers(podman: Podman, image: str) -> None:
    with podman.container(image, "udpecho", "--port", "9999", "--workers", "2") as container:
        serves(container)
        assert container.stop() == 0


@pytest.mark.parametrize("name", ["deployment", "daemonset"])
def test_as_kubernetes_runs_it(podman: Podman, image: str, name: str) -> None:
    """The file of config/kubernetes/, its probes, and SIGTERM: it tells that it is going, and goes on answering."""
    file = ROOT / "config" / "kubernetes" / name / "udpservices.toml"
    words = ("--config", "/etc/udpservices/udpservices.toml")
    options = (*HARDENED, "--volume", f"{file}:{words[1]}:ro")
    with podman.container(image, *words, options=options) as container:
        serves(container)
        assert {path: container.get(path) for path in ("/readyz", "/healthz")} == {"/readyz": 200, "/healthz": 200}
        podman.does("kill", "--signal", "TERM", container.name)
        container.wait_for("draining for 20 s")
        assert container.get("/readyz") == 503
        assert container.get("/healthz") == 200
        assert container.ask(b"late") == b"late"
        assert container.stop() == 0  # told twice, it ends at once


def test_nothing_is_left_of_the_build(podman: Podman, image: str) -> None:
    """No compiler, no pip in what was installed, no settings of the build's."""
    with podman.container(image) as container:
        for command in ("cc", "gcc", "make", "pip"):
            assert container.run("sh", "-c", f"command -v {command}").returncode != 0, command
        assert "No module named pip" in container.run("/opt/udpservices/bin/python", "-m", "pip").stderr
        assert container.run("ls", "/source", "/pip", "/wheels").stdout == ""
    (told,) = json.loads(podman.does("image", "inspect", image))
    assert "PIP_" not in json.dumps(told)


def test_its_size(podman: Podman, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    added = podman.size(image) - podman.size(BASE)
    with capsys.disabled():
        print(f"\n{image}: {podman.size(image) / 1e6:.0f} MB, of which {added / 1e6:.0f} MB on its base")
    assert added < MOST
