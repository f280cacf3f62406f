"""asyncio's loop as the running one, and what is raised where there is none."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

#: What a user has to do where there is none.
CURE = "choose one that has it, with --reactor=asyncio"


@contextmanager
def running(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """Have a loop be the running one meanwhile, where none is.

    A service starts before its reactor runs, and an asyncio protocol never did before its loop.
    """
    if loop is None or asyncio._get_running_loop() is not None:
        yield
        return
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


def lacks_loop(error: BaseException | None) -> bool:
    """Whether it is what asyncio raises where no loop runs."""
    return isinstance(error, RuntimeError) and "event loop" in str(error)
