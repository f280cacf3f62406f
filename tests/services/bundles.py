"""``udpservices --config`` as tests run it."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.support import ROOT, Process, twistd

DROPIN = ROOT / "twisted" / "plugins" / "udpservices_plugins.py"

#: The commands that a table may have, of ours.
COMMANDS = sorted(set(re.findall(r'DatagramServiceMaker\("(\w+)"', DROPIN.read_text())) - {"udpservices"})

Write = Callable[[str | bytes], Path]


def bundle(path: Path, **options: object) -> Process:
    return twistd("udpservices", "--config", path, **options)


def port_of(process: Process, service: str, protocol: str = "udp") -> int:
    """Where a table's service listens first, from the log."""
    return int(process.wait_for(rf"#info\] {re.escape(service)} listening on \S+:(\d+)/{protocol}$")[1])
