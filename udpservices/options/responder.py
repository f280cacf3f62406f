"""The groups of options that responders have."""

from udpservices.options.guard import LoopGuardOptions
from udpservices.options.impairment import ImpairmentOptions
from udpservices.options.limits import RateOptions
from udpservices.options.listen import ListenOptions
from udpservices.options.run import RunOptions, WorkerOptions
from udpservices.options.sessions import SessionOptions


class DatagramOptions(
    ListenOptions, LoopGuardOptions, RateOptions, ImpairmentOptions, SessionOptions, RunOptions, WorkerOptions
):
    """All shared options: what a protocol without options of its own has."""
