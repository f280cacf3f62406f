"""How much comes to a port, by what its turns of late brought: whether to read datagrams one by one, and how many."""

import os

from udpservices.transport.delivery import FEW
from udpservices.transport.engine.libc import SLOTS

#: Whether ports may read one by one at all where they can read many a call.
MAY_BE_LIGHT = not os.environ.get("UDPSERVICES_BATCHED")

#: Datagrams that are read one by one in a turn: at first, and where a look found that only a few wait at a time.
SINGLES = 16
MORE_SINGLES = SLOTS

#: Turns that read more than a few one by one may have left many. A look how many comes after so many datagrams of such
#: turns: at first, and at most after looks that found a few.
LOOK_SOON = SINGLES
LOOK_SELDOM = 4096

#: Batches of a few in a row after which a port reads one by one.
SMALL_BATCHES = 4

#: Turns that read one datagram alone, without a look whether there is another, after a look that found none.
ALONE = 8


class Load:
    """Little or much. A client with a few in flight keeps a queue full that never holds more than these few."""

    def __init__(self) -> None:
        #: Whether to read one by one.
        self.is_light = MAY_BE_LIGHT
        #: How many to read one by one in this turn.
        self.singles = SINGLES
        self._most = SINGLES
        self._alone = 0
        self._unseen = 0
        self._look_after = LOOK_SOON
        self._small = 0

    def brought(self, count: int) -> None:
        """A turn that reads one by one brought so many."""
        if self._alone:
            self._alone = self._alone - 1 if count else 0
            self.singles = 1 if self._alone else self._most
        elif count == 1:
            self._alone, self.singles = ALONE, 1
        elif count > FEW:
            self._unseen += count
            if self._unseen >= self._look_after:  # one small batch is enough to go back
                self.is_light, self._small = False, SMALL_BATCHES - 1

    def began_with(self, count: int, pieces: int) -> None:
        """The first batch of a turn has so many datagrams, in so many pieces."""
        if count > FEW or count > pieces:
            self._small, self._look_after, self._most = 0, LOOK_SOON, SINGLES
            return
        self._small += 1
        if self._small >= SMALL_BATCHES:
            self.is_light, self._small, self._unseen = MAY_BE_LIGHT, 0, 0
            self._look_after = min(4 * self._look_after, LOOK_SELDOM)
            self._alone, self.singles, self._most = 0, MORE_SINGLES, MORE_SINGLES
