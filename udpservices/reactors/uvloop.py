"""Twisted's asyncio reactor on a loop of uvloop's, whose UDP ports are ours."""

import asyncio

from udpservices.reactors.asyncio import install as install_on


def install() -> None:
    """Make it the reactor of this process. Raises ImportError without uvloop, ReactorAlreadyInstalledError likewise."""
    try:
        import uvloop
    except ImportError as error:
        raise ImportError("uvloop is not installed: pip install uvloop") from error
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    install_on(loop)


class Chosen:
    """What ``--reactor=udpuvloop`` installs."""

    @staticmethod
    def install() -> None:
        """Do as `install` of this module. Raises SystemExit with one line without uvloop: twistd adds all its help."""
        try:
            install()
        except ImportError as error:
            raise SystemExit(f"--reactor=udpuvloop: {error}") from error
