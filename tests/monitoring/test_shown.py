"""What Prometheus and Grafana are told to ask: every query is asked, and has an answer."""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.markdown import Page
from tests.monitoring.conftest import Watched
from tests.monitoring.server import CONFIG, PATIENCE_TO_SEE
from tests.support import ROOT, run, tool, wait_until

DASHBOARD = json.loads((ROOT / "config" / "grafana" / "udpservices.json").read_text())

#: What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*", "$service": ".*", "$job": ".*"}


def panels() -> Iterator[tuple[str, list[str]]]:
    """Each with its queries."""
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            yield panel["title"], [target["expr"] for target in panel["targets"]]


def filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


def test_panels_have_data(watched: Watched) -> None:
    """All of them, of services of which each has something to show."""
    for title, queries in panels():
        for query in map(filled, queries):
            wait_until(partial(watched.prometheus.query, query), f"{title}: {query}", PATIENCE_TO_SEE)


def test_variables(watched: Watched) -> None:
    """The dashboard lets one choose among what there is."""
    found: dict[str, list[str]] = {}
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert match
            path = f"/api/v1/label/{match[2]}/values"
            found[variable["name"]] = watched.prometheus.get(path, **{"match[]": filled(match[1])})
    assert found == {"job": ["udpservices"], "instance": [watched.metrics], "service": sorted(watched.sent)}


def test_dashboard_can_be_provisioned() -> None:
    """It has an identity of its own, and no data source but the one that is chosen."""
    assert DASHBOARD["uid"] == "udpservices"
    assert not {"id", "__inputs", "__requires"} & DASHBOARD.keys()
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identities) == len(set(identities))
    assert _sources(DASHBOARD) == {"${datasource}"}


def _sources(part: Any) -> set[str]:
    if isinstance(part, list):
        return set().union(*map(_sources, part))
    if isinstance(part, dict):
        own = {part["datasource"]["uid"]} if "datasource" in part else set()
        return own.union(*map(_sources, part.values()))
    return set()


def test_alerts_are_evaluated(watched: Watched) -> None:
    """By Prometheus itself, none with an error."""

    def rules() -> list[dict[str, Any]]:
        groups = watched.prometheus.get("/api/v1/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), "the alerts", PATIENCE_TO_SEE)
    assert {rule["name"]: rule["lastError"] for rule in rules() if rule["health"] != "ok"} == {}


def test_each_alert_is_tested() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (CONFIG / "alerts.yml").read_text()))
    tested = set(re.findall(r"^        alertname: (\w+)", (CONFIG / "alerts_test.yml").read_text(), re.MULTILINE))
    assert alerts == tested


def test_each_alert_is_in_the_page() -> None:
    rows = Page(ROOT / "docs" / "metrics.md").table("alert", "tells that")
    alerts = set(re.findall(r"alert: (\w+)", (CONFIG / "alerts.yml").read_text()))
    assert {row[0].strip("`") for row in rows} == alerts


def test_promtool() -> None:
    for words in ("check config prometheus.yml", "test rules alerts_test.yml"):
        told = run(tool("promtool"), *words.split(), cwd=CONFIG)
        assert (told.returncode, told.stderr) == (0, ""), told.stdout


def test_metrics_of_a_running_service(watched: Watched) -> None:
    told = run(tool("curl"), "-sS", f"http://{watched.metrics}/metrics")
    checked = run(tool("promtool"), "check", "metrics", input=told.stdout)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
