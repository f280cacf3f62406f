"""What config/kubernetes/ applies is right for Kubernetes, fits the image, and drains before it is killed."""

import functools
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support import BIN, ROOT, run, tool
from udpservices.units import duration

FOLDER = ROOT / "config" / "kubernetes"

#: The newest version of Kubernetes whose schemas are here, and one that is old.
VERSIONS = (kubernetes_validate.latest_version().removesuffix(".0"), "1.27")

#: Who serves.
KINDS = {"deployment": "Deployment", "daemonset": "DaemonSet"}

every = pytest.mark.parametrize("name", KINDS)


@functools.cache
def applied(name: str) -> list[dict[str, Any]]:
    """What ``kubectl apply -k`` would send to a cluster."""
    built = run(tool("kubectl"), "kustomize", FOLDER / name)
    assert (built.returncode, built.stderr) == (0, "")
    return list(yaml.safe_load_all(built.stdout))


def one(name: str, kind: str) -> dict[str, Any]:
    (found,) = [resource for resource in applied(name) if resource["kind"] == kind]
    return found


def pods(name: str) -> dict[str, Any]:
    """What its pods are to be."""
    spec: dict[str, Any] = one(name, KINDS[name])["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    (found,) = pods(name)["containers"]
    assert isinstance(found, dict)
    return found


def configuration(name: str) -> dict[str, Any]:
    return tomllib.loads(one(name, "ConfigMap")["data"]["udpservices.toml"])


@pytest.mark.parametrize("version", VERSIONS)
@every
def test_schemas(name: str, version: str) -> None:
    """Kubernetes knows each setting."""
    for resource in applied(name):
        kubernetes_validate.validate(resource, version, strict=True)


def test_every_folder_and_file_is_applied() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(KINDS)
    for name in KINDS:
        text = (FOLDER / name / "kustomization.yaml").read_text()
        for path in (FOLDER / name).iterdir():
            assert path.name == "kustomization.yaml" or f"- {path.name}\n" in text, path


@every
def test_configuration_is_one_of_udpservices(name: str, tmp_path: Path) -> None:
    file = tmp_path / "udpservices.toml"
    file.write_text(one(name, "ConfigMap")["data"][file.name])
    checked = run(BIN / "udpservices", "--config", file, "--check")
    assert (checked.returncode, checked.stderr) == (0, "")


@every
def test_configuration_reaches_the_command(name: str) -> None:
    """Under the name that has a digest of it."""
    (volume,) = pods(name)["volumes"]
    (mount,) = container(name)["volumeMounts"]
    assert volume["configMap"]["name"] == one(name, "ConfigMap")["metadata"]["name"] != "udpservices"
    assert volume["name"] == mount["name"]
    assert container(name)["args"] == ["--config", f"{mount['mountPath']}/udpservices.toml"]


@every
def test_it_is_killed_only_after_its_drain(name: str) -> None:
    """And after the second in which it answers what has arrived, with some seconds to spare."""
    drain = duration(configuration(name)["drain"])
    assert pods(name)["terminationGracePeriodSeconds"] >= drain + 5
    assert "lifecycle" not in container(name)


@every
def test_probes_ask_where_metrics_are(name: str) -> None:
    host, _, port = configuration(name)["metrics"].rpartition(":")
    named = {one["name"]: one["containerPort"] for one in container(name)["ports"]}
    probes = [container(name)[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    for probe in probes:
        assert named[probe["httpGet"]["port"]] == int(port)
        assert probe["httpGet"].get("host", "0.0.0.0") == host
    assert {probe["httpGet"]["path"] for probe in probes} == {"/readyz", "/healthz"}


@every
def test_ports_are_those_that_are_served(name: str) -> None:
    served = {table["port"] for table in configuration(name).values() if isinstance(table, dict)}
    assert {port["containerPort"] for port in container(name)["ports"] if port["protocol"] == "UDP"} == served


@every
def test_rights(name: str) -> None:
    """As Kubernetes' "restricted" standard has them, and the user is the image's."""
    user = (ROOT / "Containerfile").read_text().partition("\nUSER ")[2].partition("\n")[0]
    of_pod, own = pods(name)["securityContext"], container(name)["securityContext"]
    assert f"{of_pod['runAsUser']}:{of_pod['runAsGroup']}" == user
    assert of_pod["runAsNonRoot"]
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pods(name)["automountServiceAccountToken"]
    assert container(name)["resources"]["limits"]["memory"]


def test_service_and_budget_choose_the_pods() -> None:
    labels = one("deployment", "Deployment")["spec"]["template"]["metadata"]["labels"]
    service, budget = one("deployment", "Service")["spec"], one("deployment", "PodDisruptionBudget")["spec"]
    assert service["selector"] == budget["selector"]["matchLabels"] == labels
    assert (service["type"], service["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    (port,) = service["ports"]
    assert port["protocol"] == "UDP"
    assert port["targetPort"] in {one["name"] for one in container("deployment")["ports"]}


def test_daemonset_is_on_the_network_of_the_host() -> None:
    assert pods("daemonset")["hostNetwork"]
    assert not pods("deployment").get("hostNetwork")
