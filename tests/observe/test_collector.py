"""What Prometheus reads of a process that is made up."""

import re
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.markdown import Page
from tests.observe.processes import MadeUp, endpoint, worker
from tests.support import ROOT, run, tool
from udpservices.observe.collector import EACH, SnapshotCollector, renderer
from udpservices.observe.snapshot import EndpointState, ReloadState
from udpservices.transport.counters import ANSWER_BOUNDS, Counters

Values = dict[str, dict[tuple[tuple[str, str], ...], float]]

WHERE = (("endpoint", "127.0.0.1:9999/udp"), ("family", "ipv4"), ("service", "udpecho"))


def values(text: str) -> Values:
    """By the name of the sample, and by its labels. Nothing is there twice."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            series = found.setdefault(one.name, {})
            labels = tuple(sorted(one.labels.items()))
            assert labels not in series, f"{one.name} {labels} is there twice"
            series[labels] = one.value
    return found


def scraped(process: MadeUp) -> str:
    kind, body = renderer(process)()
    assert kind == b"text/plain; version=0.0.4; charset=utf-8"
    return body.decode()


def full() -> MadeUp:
    """A process that has something of everything."""
    busy = endpoint(
        received=10, sent=7, overflowed=3, refused=Counter({"source-port": 2}), would_refuse=Counter(rate=1)
    )
    busy.counters.answered_after(60e-6)
    busy.counters.answered_after(2.0)
    process = MadeUp(busy, endpoint("udptime", 3737))
    process.change(workers=[worker(0), worker(1, "gone", restarts=2)], reloads=ReloadState(3, 1, False, 1.5e9))
    return process


def test_a_path_that_is_no_text() -> None:
    """Of a Unix socket: each byte that is none of UTF-8 is a mark in the label."""
    process = full()
    process.change(endpoints=[EndpointState("udptime", "unix:/run/\udcff\udcfe.sock", "unix", Counters())])
    (labels,) = values(scraped(process))["udpservices_tcp_connections"]
    assert dict(labels)["endpoint"] == "unix:/run/??.sock"


def test_is_the_librarys_text() -> None:
    """The lines are written here because the library needs long for them; they are the same."""
    process, registry = full(), CollectorRegistry()
    registry.register(SnapshotCollector(process))
    theirs = generate_latest(registry).decode()
    ours = scraped(process)
    assert values(theirs).items() <= values(ours).items()
    comments = [line for line in theirs.splitlines() if line.startswith("#")]
    assert [line for line in ours.splitlines() if line.startswith("#")][: len(comments)] == comments


def test_is_as_prometheus_wants_it() -> None:
    told = run(tool("promtool"), "check", "metrics", input=scraped(full()))
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_counts() -> None:
    found = values(scraped(full()))
    assert found["udpservices_received_datagrams_total"][WHERE] == 10
    assert found["udpservices_answered_datagrams_total"][WHERE] == 7
    assert found["udpservices_receive_queue_bytes"][WHERE] == 2304
    assert found["udpservices_receive_buffer_bytes"][WHERE] == 212992
    dropped = {
        dict(labels)["reason"]: count
        for labels, count in found["udpservices_dropped_datagrams_total"].items()
        if dict(labels)["service"] == "udpecho"
    }
    assert {reason: count for reason, count in dropped.items() if count} == {"overflowed": 3, "source-port": 2}
    assert {"truncated", "withheld", "own-port", "rate"} <= dropped.keys(), "the first drop must show as an increase"
    assert sum(found["udpservices_would_refuse_datagrams_total"].values()) == 1


def test_what_comes_back_is_not_received() -> None:
    """As the log has it at the stop."""
    found = values(scraped(MadeUp(endpoint(received=10, own=4))))
    assert found["udpservices_received_datagrams_total"][WHERE] == 6


def test_each_counter_has_its_series() -> None:
    """A number that is told elsewhere is told here too."""
    numbers = {name: index + 1 for index, name in enumerate(Counters().flat())}
    del numbers["dropped"], numbers["own"], numbers["refused"], numbers["would_refuse"], numbers["unsent"]
    found = values(scraped(MadeUp(endpoint("udpecho", 9999, **numbers))))
    told = {series.get(WHERE) for series in found.values()}
    told |= set(found["udpservices_dropped_datagrams_total"].values())
    assert {name for name, number in numbers.items() if number not in told} == set()


def test_unsent_has_its_errors() -> None:
    found = values(scraped(MadeUp(endpoint(unsent_by_error=Counter(enobufs=4)))))
    assert found["udpservices_dropped_datagrams_total"][tuple(sorted((*WHERE, ("reason", "unsent-enobufs"))))] == 4


def test_times_to_answer() -> None:
    found = values(scraped(full()))
    edges = {
        float(dict(labels)["le"]): count
        for labels, count in found["udpservices_answer_seconds_bucket"].items()
        if dict(labels)["service"] == "udpecho"
    }
    assert sorted(edges) == [*ANSWER_BOUNDS, float("inf")]
    assert (edges[50e-6], edges[100e-6], edges[1.0], edges[float("inf")]) == (0, 1, 1, 2)
    assert found["udpservices_answer_seconds_count"][WHERE] == 2
    assert found["udpservices_answer_seconds_sum"][WHERE] == pytest.approx(2.00006)


def test_workers() -> None:
    found = values(scraped(full()))
    assert found["udpservices_worker_up"] == {(("worker", "0"),): 1, (("worker", "1"),): 0}
    assert found["udpservices_worker_restarts_total"] == {(("worker", "0"),): 0, (("worker", "1"),): 2}
    assert found["udpservices_reactor_lag_seconds"] == {
        (("worker", ""),): 0.001,
        (("worker", "0"),): 0.002,
        (("worker", "1"),): 0.002,
    }


def test_the_process() -> None:
    process = full()
    process.change(is_draining=True)
    found = values(scraped(process))
    assert found["udpservices_reloads_total"] == {(("result", "success"),): 3, (("result", "failure"),): 1}
    assert found["udpservices_last_reload_successful"] == {(): 0}
    assert found["udpservices_last_reload_success_timestamp_seconds"] == {(): 1.5e9}
    assert found["udpservices_draining"] == {(): 1}
    assert found["udpservices_start_timestamp_seconds"] == {(): 1e9}
    assert "process_cpu_seconds_total" in found


def test_sockets_that_share_a_port_are_one() -> None:
    """Prometheus refuses a series that is there twice."""
    found = values(scraped(MadeUp(endpoint(received=1), endpoint(received=2))))
    assert found["udpservices_received_datagrams_total"] == {WHERE: 3}
    assert found["udpservices_receive_queue_bytes"] == {WHERE: 4608}


def test_names_are_quoted() -> None:
    name = 'a "quoted" \\ name\nof two lines'
    process = MadeUp(EndpointState(name, "127.0.0.1:9999/udp", "ipv4", Counters()))
    assert {dict(labels)["service"] for labels in values(scraped(process))["udpservices_probes_total"]} == {name}


@pytest.mark.parametrize("endpoint", ["127.0.0.1:3737/tcp", "unix:/run/time.sock"])
def test_streams(endpoint: str) -> None:
    """They have connections, and no datagrams."""
    state = EndpointState("udptime", endpoint, "ipv4", Counters(refused=Counter(denied=2)), connections=3)
    found = values(scraped(MadeUp(state)))
    labels = (("endpoint", endpoint), ("family", "ipv4"), ("service", "udptime"))
    assert found["udpservices_tcp_connections"] == {labels: 3}
    refused = {
        dict(series)["reason"]: count for series, count in found["udpservices_refused_tcp_connections_total"].items()
    }
    assert refused == {"denied": 2, "not-allowed": 0}
    assert "udpservices_received_datagrams_total" not in found
    assert "udpservices_dropped_datagrams_total" not in found


def test_the_page_has_each_series() -> None:
    """And each label."""
    table = Page(ROOT / "docs" / "metrics.md").table("series", "labels", "is")
    process, stream = full(), EndpointState("udptime", "127.0.0.1:3737/tcp", "ipv4", Counters())
    process.change(endpoints=[*process.now.endpoints, stream])
    shown: dict[str, set[str]] = {}
    for name, series in values(scraped(process)).items():
        if name.startswith("udpservices_"):
            labels = {label for one in series for label, _ in one} - {"le"}
            shown[re.sub("_(bucket|sum|count)$", "", name)] = labels
    stated = {
        name.strip("`"): set(re.findall("`(.*?)`", labels.replace("the three", "`service`, `endpoint`, `family`")))
        for name, labels, _ in table
    }
    assert stated == shown


def test_nothing_is_open() -> None:
    found = values(scraped(MadeUp()))
    assert "udpservices_received_datagrams_total" not in found
    assert len(found["udpservices_build_info"]) == 1


def test_help_says_what_is_a_sample() -> None:
    help_of = dict(re.findall(r"^# HELP (\S+) (.*)$", scraped(full()), re.MULTILINE))
    assert "estimate" in help_of["udpservices_filtered_datagrams_total"]
    assert "sample" in help_of["udpservices_answer_seconds"]
    assert all(f"{one.name}_total" in help_of if one.type == "counter" else one.name in help_of for one in EACH)
