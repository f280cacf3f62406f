"""What a server answers that is asked for its metrics: it is shown, or refused in one line."""

import io

from rich.console import Console

from tests.fuzz import Target
from udpservices.top.figures import rows
from udpservices.top.reading import Unreachable, parsed
from udpservices.top.table import Screen
from udpservices.top.watch import line

_SEED = b"""\
# TYPE udpservices_build_info gauge
udpservices_build_info{version="0.1.0"} 1
# TYPE udpservices_received_datagrams counter
udpservices_received_datagrams_total{service="udpecho",endpoint="127.0.0.1:9999/udp",family="ipv4"} 17
udpservices_dropped_datagrams_total{service="udpecho",endpoint="127.0.0.1:9999/udp",reason="overflowed"} 1
udpservices_answer_seconds_bucket{service="udpecho",le="0.01"} 3
udpservices_answer_seconds_bucket{service="udpecho",le="+Inf"} 4
udpservices_worker_up{worker="0"} 1
udpservices_worker_restarts_total{worker="0"} 2
udpservices_reactor_lag_seconds{worker=""} 0.1
"""


def metrics(data: bytes) -> None:
    try:
        reading = parsed(data, "server")
    except Unreachable as error:
        if not str(error).isprintable():
            raise AssertionError(error) from error
        return
    shown = io.StringIO()
    Console(file=shown).print(Screen("server", [reading, reading]))
    assert all(one.isprintable() for one in shown.getvalue().splitlines())
    assert all(line(row).isprintable() for row in rows([reading, reading], ("service",)))


TARGETS = {
    "metrics": Target(
        metrics, [_SEED], [b"{", b"}", b'"', b"\\", b",", b"=", b"\n", b"NaN", b"+Inf", b"1e400", b"\x1b"]
    )
}
