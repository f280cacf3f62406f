"""What Prometheus knows of services adds up to what their clients sent."""

import os
import signal
from pathlib import Path

import pytest

from tests.monitoring.conftest import FEW, Watched
from tests.monitoring.server import PATIENCE_TO_SEE
from tests.support import BIN, run, udp_socket, wait_until


def of(name: str, service: str, **labels: str) -> str:
    """The sum of a counter over the endpoints of a service."""
    matchers = ", ".join(f'{label}="{value}"' for label, value in {"service": service, **labels}.items())
    return f"sum(udpservices_{name}_total{{{matchers}}})"


def dropped(service: str, reason: str) -> str:
    return of("dropped_datagrams", service, reason=reason)


@pytest.mark.parametrize("service", ["echo", "guarded", "lossy", "limited", "raising", "time"])
def test_all_is_received(watched: Watched, service: str) -> None:
    """By two workers, as one number; of what a filter refuses samples are received too."""
    received = f"{of('received_datagrams', service)} - {dropped(service, 'denied')}"
    watched.prometheus.sees(received, watched.sent[service])


def test_received_and_overflowed_are_what_was_sent(watched: Watched) -> None:
    """Of a service that is too slow by far, the kernel drops the rest, and that is counted to the last datagram."""
    received, overflowed = of("received_datagrams", "slow"), dropped("slow", "overflowed")
    watched.prometheus.sees(f"{received} + {overflowed}", watched.sent["slow"])
    lost = watched.prometheus.value(overflowed)
    assert lost is not None
    assert lost > watched.sent["slow"] / 2, "it has hardly any room"
    watched.prometheus.sees(f"{of('answered_datagrams', 'slow')} - {received}", 0)


def test_refused_in_the_kernel_is_about_what_was_denied(watched: Watched) -> None:
    """By a sample: it may be wrong, but not much. Datagrams that are let through as samples are received."""
    filtered = watched.prometheus.value(of("filtered_datagrams", "guarded"))
    samples = watched.prometheus.value(dropped("guarded", "denied"))
    assert filtered is not None
    assert samples is not None
    if os.environ.get("UDPSERVICES_NO_FILTERS"):
        assert samples == watched.denied
    else:
        assert watched.denied / 20 < filtered + samples < 20 * watched.denied


def test_impairments_stand_apart(watched: Watched) -> None:
    impaired = of("impaired_datagrams", "lossy")
    watched.prometheus.sees(f"{impaired} + {of('answered_datagrams', 'lossy')}", FEW)
    lost = watched.prometheus.value(impaired)
    assert lost is not None
    assert 0 < lost < FEW
    assert watched.prometheus.value(of("dropped_datagrams", "lossy")) == 0


def test_a_dry_run_drops_nothing(watched: Watched) -> None:
    watched.prometheus.sees(of("answered_datagrams", "limited"), FEW)
    over = watched.prometheus.value('sum(udpservices_would_refuse_datagrams_total{service="limited", reason="rate"})')
    assert over is not None
    assert 0 < over < FEW


def test_exceptions(watched: Watched) -> None:
    watched.prometheus.sees(of("protocol_exceptions", "raising"), FEW)
    assert watched.prometheus.value(of("protocol_exceptions", "echo")) == 0


def test_bytes(watched: Watched) -> None:
    size = sum(len(str(index)) for index in range(FEW))
    watched.prometheus.sees(of("received_bytes", "echo"), size)
    watched.prometheus.sees(of("answered_bytes", "echo"), size)


def test_endpoints_have_their_families(watched: Watched) -> None:
    found = watched.prometheus.query('udpservices_received_datagrams_total{service="echo"}')
    families = {(labels["family"], labels["endpoint"].startswith("[")): value for labels, value in found}
    assert families == {("ipv4", False): FEW, ("ipv6", True): 0}


def test_times_to_answer(watched: Watched) -> None:
    """Some were sampled; each bucket has what the one below has."""
    watched.prometheus.sees("sum(udpservices_answer_seconds_count) > bool 0", 1)
    buckets = watched.prometheus.query('sum by (le) (udpservices_answer_seconds_bucket{service="echo"})')
    counts = [count for _, count in sorted((float(labels["le"]), count) for labels, count in buckets)]
    assert counts == sorted(counts)


def test_buffers(watched: Watched) -> None:
    """Two sockets share what the service has."""
    watched.prometheus.sees("min(udpservices_receive_buffer_bytes) > bool 2 * 2304 - 1", 1)
    watched.prometheus.sees('udpservices_receive_queue_bytes{service="slow"}', 0)


def test_last_datagram(watched: Watched) -> None:
    """Told to a fraction of a second, on the clock of the same machine."""
    watched.prometheus.sees("sum(time() - udpservices_last_datagram_timestamp_seconds{family='ipv4'} > bool 600)", 0)
    watched.prometheus.sees("udpservices_last_datagram_timestamp_seconds{family='ipv6'}", 0)


def test_top_shows_them(watched: Watched) -> None:
    told = run(BIN / "udpservices", "top", watched.metrics, "--once", "--interval", "100ms")
    assert (told.returncode, told.stderr) == (0, "")
    shown = {line.split()[1] for line in told.stdout.splitlines()}
    assert shown == {f"service={name}" for name in watched.sent}


def test_a_worker_that_is_killed(watched: Watched) -> None:
    """It shows as a restart, and no counter falls."""
    prometheus = watched.prometheus
    prometheus.sees("sum(udpservices_worker_up)", 2)
    received = "sum by (service) (udpservices_received_datagrams_total)"
    before = {labels["service"]: count for labels, count in prometheus.query(received)}
    os.kill(_worker(watched.process.pid), signal.SIGKILL)
    prometheus.sees("sum(udpservices_worker_restarts_total)", 1)
    prometheus.sees("sum(udpservices_worker_up)", 2)
    after = {labels["service"]: count for labels, count in prometheus.query(received)}
    assert after == before
    assert prometheus.value("resets(udpservices_received_datagrams_total{service='slow'}[10m])") == 0


def test_a_worker_that_hangs(watched: Watched, tmp_path: Path) -> None:
    """It shows for as long as it does."""
    prometheus, until = watched.prometheus, tmp_path / "until"
    prometheus.sees("sum(udpservices_worker_up)", 2)
    with udp_socket() as client:
        client.sendto(str(until).encode(), ("127.0.0.1", watched.numbers["hanging"]))
        prometheus.sees("sum(udpservices_worker_up)", 1)
        until.touch()
        prometheus.sees("sum(udpservices_worker_up)", 2)


def _worker(parent: int) -> int:
    """A child that has sockets of UDP; the spare has none."""
    sockets = {line.split()[9] for line in Path("/proc/net/udp").read_text().splitlines()[1:]}
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        links = [str(entry.readlink()) for entry in Path(f"/proc/{child}/fd").iterdir()]
        if any(link.removeprefix("socket:[").removesuffix("]") in sockets for link in links):
            return int(child)
    raise AssertionError("there is no worker")


def test_reloads(watched: Watched) -> None:
    """One that fails shows, and one that mends it; services that stay count on."""
    text = watched.config.read_text()
    watched.prometheus.sees("udpservices_last_reload_successful", 1)
    for content, succeeded in ((text + "\n[nonsense]\n", 0), (text.replace("50%", "40%"), 1)):
        watched.config.write_text(content)
        os.kill(watched.process.pid, signal.SIGHUP)
        result = "success" if succeeded else "failure"
        watched.prometheus.sees(f'udpservices_reloads_total{{result="{result}"}}', 1)
        watched.prometheus.sees("udpservices_last_reload_successful", succeeded)
    wait_until(
        lambda: watched.prometheus.value(of("received_datagrams", "echo")) == watched.sent["echo"],
        "the counts of a service that stays",
        PATIENCE_TO_SEE,
    )
