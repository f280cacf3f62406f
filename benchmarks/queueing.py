"""One socket and its process, simulated: what comes waits in the receive buffer, and is lost where that is full."""

import math
from dataclasses import dataclass
from random import Random

#: Simulated time goes on by so much, in seconds.
STEP = 0.001

#: How long traffic goes on before a pause, and at most after it, in seconds.
BEFORE, AFTER = 10.0, 10.0

# From so many on, a number that follows Poisson's distribution is drawn from the normal one.
_MANY = 50.0


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    arrived: int
    lost: int
    #: The longest that a datagram waited, in seconds.
    wait: float
    #: Seconds from the end of the pause until nothing waited; None where that did not happen within `AFTER`.
    back: float | None


def poisson(mean: float, random: Random) -> int:
    """A number of things that happen by themselves, of which there are `mean` on average."""
    if mean > _MANY:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    count, product, least = 0, random.random(), math.exp(-mean)
    while product > least:
        count += 1
        product *= random.random()
    return count


def simulate(rate: float, served: float, slots: int, random: Random, pause: float = 0.0, burst: int = 1) -> Outcome:
    """Some seconds of traffic, a pause in which nobody reads, and what follows until nothing waits any more.

    `rate` datagrams a second come, `burst` at a time; `served` can be answered in a second, `slots` wait.
    """
    waiting, arrived, lost, longest = 0.0, 0, 0, 0.0
    start, end = round(BEFORE / STEP), round((BEFORE + pause) / STEP)
    for step in range(end + round(AFTER / STEP)):
        come = burst * poisson(rate * STEP / burst, random)
        read = 0.0 if start <= step < end else served * STEP
        kept = min(come, max(0, int(slots + read - waiting)))
        arrived, lost = arrived + come, lost + come - kept
        waiting = max(0.0, waiting + kept - read)
        longest = max(longest, waiting / served + (0.0 if read else (end - step) * STEP))
        if step >= end and not waiting:
            return Outcome(arrived, lost, longest, (step - end) * STEP)
    return Outcome(arrived, lost, longest, None)
