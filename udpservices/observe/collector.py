"""What Prometheus reads of a process: each series, made of a snapshot.

The collector yields the families of prometheus-client, so that it can stand in any registry.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

import twisted
from udpservices import __version__
from udpservices.observe.exposition import NONE, Labels, family_of, labels_of, written
from udpservices.observe.snapshot import EndpointState, Snapshot, together
from udpservices.observe.source import Source
from udpservices.policy.guard.reasons import DENIED, NOT_ALLOWED, OWN_PORT, SOURCE_PORT
from udpservices.policy.limits import RATE
from udpservices.transport.counters import ANSWER_BOUNDS, Counters

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

#: Reasons whose series are there from the start, so that the first drop shows as an increase.
FROM_THE_START = (
    "overflowed",
    "truncated",
    "withheld",
    *(reason.name for reason in (SOURCE_PORT, OWN_PORT, NOT_ALLOWED, DENIED, RATE)),
)


class Each(NamedTuple):
    """A family with one series for each endpoint of datagrams."""

    name: str
    type: str
    documentation: str
    value: Callable[[EndpointState], float]


EACH = (
    Each(
        "udpservices_received_datagrams",
        "counter",
        "Datagrams read from the socket, whatever became of them.",
        lambda one: one.counters.received - one.counters.own,
    ),
    Each(
        "udpservices_answered_datagrams",
        "counter",
        "Datagrams handed to the kernel to be sent.",
        lambda one: one.counters.sent,
    ),
    Each(
        "udpservices_received_bytes",
        "counter",
        "Bytes of the datagrams read, without headers.",
        lambda one: one.counters.received_bytes,
    ),
    Each(
        "udpservices_answered_bytes",
        "counter",
        "Bytes of the datagrams handed to the kernel, without headers.",
        lambda one: one.counters.sent_bytes,
    ),
    Each(
        "udpservices_filtered_datagrams",
        "counter",
        "Datagrams that the guard's filter refused in the kernel: an estimate, by a sample that it lets through.",
        lambda one: one.counters.filtered,
    ),
    Each(
        "udpservices_impaired_datagrams",
        "counter",
        "Datagrams dropped on purpose by an impairment.",
        lambda one: one.counters.impaired,
    ),
    Each(
        "udpservices_network_errors",
        "counter",
        "Errors that the network reported of datagrams sent, by ICMP for the most part.",
        lambda one: one.counters.network_errors,
    ),
    Each(
        "udpservices_protocol_exceptions",
        "counter",
        "Exceptions that the protocol raised.",
        lambda one: one.counters.protocol_errors,
    ),
    Each(
        "udpservices_policy_exceptions",
        "counter",
        "Exceptions that a policy raised.",
        lambda one: one.counters.policy_errors,
    ),
    Each(
        "udpservices_port_exceptions",
        "counter",
        "Exceptions in the port itself, such as for want of memory.",
        lambda one: one.counters.port_errors,
    ),
    Each(
        "udpservices_probes",
        "counter",
        "Questions of the health check received, which no other series counts.",
        lambda one: one.counters.probes,
    ),
    Each(
        "udpservices_limiter_evictions",
        "counter",
        "Buckets of the rate limiter that were full again, and began anew for a network of clients.",
        lambda one: one.counters.evicted,
    ),
    Each(
        "udpservices_limiter_networks",
        "gauge",
        "Networks of clients whose bucket at the rate limiter is not full, as of five seconds ago at most.",
        lambda one: one.tracked,
    ),
    Each(
        "udpservices_receive_queue_bytes",
        "gauge",
        "Memory of the receive buffers that is taken by datagrams that wait.",
        lambda one: one.queued,
    ),
    Each(
        "udpservices_receive_buffer_bytes",
        "gauge",
        "Memory of the receive buffers that the kernel granted.",
        lambda one: one.room,
    ),
    Each(
        "udpservices_last_datagram_timestamp_seconds",
        "gauge",
        "When the last datagram was received, to a tenth of a second; 0 before the first one.",
        lambda one: one.counters.last,
    ),
)


def renderer(source: Source) -> Callable[[], tuple[bytes, bytes]]:
    """Make the function that answers a scrape of a process: the content type, and the body in text format 0.0.4."""
    collector = SnapshotCollector(source)
    process = CollectorRegistry()
    ProcessCollector(registry=process)

    def render() -> tuple[bytes, bytes]:
        text = written(collector.collect()).encode(errors="replace")  # a path may have what is no text
        return CONTENT_TYPE, text + generate_latest(process)

    return render


class SnapshotCollector(Collector):
    """A collector of prometheus-client that takes a snapshot for each scrape."""

    def __init__(self, source: Source) -> None:
        """`source` is the process that is shown."""
        self._source = source
        self._build = labels_of(version=__version__, python=platform.python_version(), twisted=twisted.__version__)

    def collect(self) -> Iterator[Metric]:
        """Each family, the samples' labels being `Labels`."""
        snapshot = self._source.snapshot()
        labelled = _labelled(one for one in snapshot.endpoints if not _is_stream(one))
        for name, kind, documentation, value in EACH:
            yield family_of(name, kind, documentation, ((labels, value(one)) for labels, one in labelled))
        yield family_of(
            "udpservices_dropped_datagrams",
            "counter",
            "Datagrams that did not get where they should, by reason.",
            _by_reason(labelled, lambda counters: {**dict.fromkeys(FROM_THE_START, 0), **counters.dropped_by_reason()}),
        )
        yield family_of(
            "udpservices_would_refuse_datagrams",
            "counter",
            "Datagrams delivered that the guard would have refused but for its dry run, by reason.",
            _by_reason(labelled, lambda counters: counters.would_refuse),
        )
        yield _answer_times(labelled)
        yield from _of_streams(_labelled(filter(_is_stream, snapshot.endpoints)))
        yield from _of_workers(snapshot)
        yield from self._of_process(snapshot)

    def _of_process(self, snapshot: Snapshot) -> Iterator[Metric]:
        reloads = snapshot.reloads
        yield family_of(
            "udpservices_reloads",
            "counter",
            "Reloads, by their result.",
            [(labels_of(result="success"), reloads.succeeded), (labels_of(result="failure"), reloads.failed)],
        )
        yield _gauge("last_reload_successful", "Whether the last reload was one; 1 before the first.", reloads.is_good)
        yield _gauge(
            "last_reload_success_timestamp_seconds", "When the services became what they are.", reloads.last_success
        )
        yield _gauge("draining", "Whether the process is to stop soon.", snapshot.is_draining)
        yield _gauge("start_timestamp_seconds", "When the process was started.", snapshot.started)
        yield _gauge("build_info", "The versions of what runs; always 1.", 1, self._build)


def _is_stream(one: EndpointState) -> bool:
    return one.endpoint.endswith("/tcp") or one.endpoint.startswith("unix:")


def _labelled(endpoints: Iterable[EndpointState]) -> list[tuple[Labels, EndpointState]]:
    """Each endpoint with its labels."""
    return [(labels_of(**name._asdict()), one) for name, one in together(endpoints).items()]


def _gauge(name: str, documentation: str, value: float, labels: Labels = NONE) -> Metric:
    return family_of(f"udpservices_{name}", "gauge", documentation, [(labels, value)])


def _by_reason(
    labelled: Iterable[tuple[Labels, EndpointState]], counts: Callable[[Counters], Mapping[str, int]]
) -> Iterator[tuple[Labels, int]]:
    for labels, one in labelled:
        for reason, count in counts(one.counters).items():
            yield labels.and_also("reason", reason), count


def _answer_times(labelled: Iterable[tuple[Labels, EndpointState]]) -> Metric:
    """The histogram of the samples that the ports took."""
    name = "udpservices_answer_seconds"
    family = Metric(name, "Time from a datagram's arrival to its answer, of a sample of them.", "histogram")
    edges = [floatToGoString(bound) for bound in ANSWER_BOUNDS]
    for labels, one in labelled:
        times = one.counters.answer_times
        reached = list(accumulate(times.get(index, 0) for index in range(len(edges) + 1)))
        for edge, count in zip([*edges, "+Inf"], reached, strict=True):
            family.samples.append(Sample(f"{name}_bucket", labels.and_also("le", edge), count))
        family.samples.append(Sample(f"{name}_sum", labels, one.counters.answer_seconds))
        family.samples.append(Sample(f"{name}_count", labels, reached[-1]))
    return family


def _of_streams(labelled: Sequence[tuple[Labels, EndpointState]]) -> Iterator[Metric]:
    yield family_of(
        "udpservices_tcp_connections",
        "gauge",
        "Open connections, of TCP or a Unix socket.",
        ((labels, one.connections) for labels, one in labelled),
    )
    yield family_of(
        "udpservices_refused_tcp_connections",
        "counter",
        "Connections that were refused, by reason.",
        _by_reason(
            labelled, lambda counters: {**dict.fromkeys((DENIED.name, NOT_ALLOWED.name), 0), **counters.refused}
        ),
    )


def _of_workers(snapshot: Snapshot) -> Iterator[Metric]:
    """What is of each worker, and the lag, which the parent has too."""
    lanes = [(labels_of(worker=str(one.lane)), one) for one in snapshot.workers]
    yield family_of(
        "udpservices_worker_up",
        "gauge",
        "Whether the worker serves, and was there of late.",
        [(labels, one.is_up) for labels, one in lanes],
    )
    yield family_of(
        "udpservices_worker_restarts",
        "counter",
        "How many workers were replaced in this place.",
        [(labels, one.restarts) for labels, one in lanes],
    )
    yield family_of(
        "udpservices_reactor_lag_seconds",
        "gauge",
        "Time by which the reactor came late to a timer at most, of late; the worker is empty for the parent.",
        [(labels_of(worker=""), snapshot.lag), *((labels, one.lag) for labels, one in lanes)],
    )
