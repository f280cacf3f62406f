"""Side by side: echo servers on our port, on Twisted's, on asyncio and uvloop, and in C."""
