"""The groups of options that responders have."""

from udpservices.options.guard import LoopGuardOptions
from udpservices.options.impairment import ImpairmentOptions
from udpservices.options.limits import RateOptions
from udpservices.options.listen import ListenOptions
from udpservices.options.run import RunOptions, WorkerOptions


class DatagramOptions(ListenOptions, LoopGuardOptions, RateOptions, ImpairmentOptions, RunOptions, WorkerOptions):
    """All shared options: what a protocol without options of its own has."""
