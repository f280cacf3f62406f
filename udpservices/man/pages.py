"""Manual pages, in the macros of man(7)."""

import os
import re
import textwrap
import time
from collections.abc import Iterable, Iterator

import udpservices
from udpservices.__main__ import BUNDLE
from udpservices.man import declared
from udpservices.man.declared import Command, Everything, Option, headline, runner

#: What the overview says of the process, whichever command it runs: what udpservices makes of signals, files and the
#: environment. docs/deploy.md has more.
_SIGNALS = {
    "SIGTERM, SIGINT": "Answer what has arrived, go on for --drain, and end.",
    "SIGHUP": "Read the options again, and the files that they name.",
    "SIGUSR1": "Open the file of --log-file anew.",
    "SIGUSR2": "Become the newer version that is installed by now, with the same sockets.",
}
_ENVIRONMENT = {
    "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES": "The sockets that systemd hands over, for --listen systemd:….",
    "NOTIFY_SOCKET, WATCHDOG_USEC": "Where systemd is told that a service is ready, and how often that it lives.",
    "UDPSERVICES_UNBATCHED=1": "Read and send one datagram a system call.",
    "UDPSERVICES_NO_FILTERS=1": "Use no socket filters.",
    "UDPSERVICES_NO_GSO=1": "Do not have the kernel segment what is sent.",
}
_STATUS = {"0": "It ended as it was told to.", "1": "There was a mistake, which a line on standard error names."}


def pages() -> dict[str, str]:
    """The text of each page, by the name of its file."""
    everything = declared.everything()
    made = {f"{BUNDLE}-{command.name}.1": _page_of(command) for command in everything.commands}
    return {f"{BUNDLE}.1": _overview(everything), **made}


def _overview(everything: Everything) -> str:
    return _page(
        BUNDLE,
        "serve UDP: any datagram protocol as a daemon",
        [
            _section("SYNOPSIS"),
            *_synopsis("udpservices [options] COMMAND [options]"),
            *_synopsis(everything.bundle.synopsis),
            _section("DESCRIPTION"),
            escaped(
                "The first form runs one command. The second one runs all services that a file of tables describes."
            ),
            ".PP",
            escaped("The commands that serve are also commands of twistd(1), which puts them in the background."),
            _section("COMMANDS"),
            *_terms({command.name: command.description for command in everything.commands}),
            _section("OPTIONS"),
            ".SS Of every command, before its name or after it",
            *_options(runner()),
            ".SS With a file of services",
            *_options(everything.bundle.options),
            _section("SIGNALS"),
            *_terms(_SIGNALS),
            _section("ENVIRONMENT"),
            *_terms(_ENVIRONMENT),
            *_end(f"{BUNDLE}-{command.name}" for command in everything.commands),
        ],
    )


def _page_of(command: Command) -> str:
    more = declared.runner_alone(command)
    return _page(
        f"{BUNDLE}-{command.name}",
        headline(command.description),
        [
            _section("SYNOPSIS"),
            *_synopsis(command.synopsis),
            *(_synopsis(f"twistd [options] {command.name} [options]") if command.serves else []),
            _section("DESCRIPTION"),
            *_paragraphs(command.text or (command.description,)),
            *([_section("OPTIONS"), *_options(command.options)] if command.options else []),
            *([".SS Under udpservices alone", *_options(more)] if more else []),
            *_end([BUNDLE]),
        ],
    )


def _page(name: str, description: str, lines: Iterable[str]) -> str:
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    title = f'.TH {name.upper()} 1 {date} "udpservices {udpservices.__version__}" "User Commands"'
    body = "\n".join([title, _section("NAME"), f"{escaped(name)} \\- {escaped(description)}", *lines])
    return f'.\\" Made by python -m udpservices.man of what --help shows.\n{body}\n'


def _section(name: str) -> str:
    return f".SH {name}"


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        if index:
            yield ".PP"
        yield escaped(text)


def _synopsis(usage: str) -> Iterator[str]:
    """Each way to call it, on a line of its own."""
    yield ".nf"
    for line in usage.splitlines():
        yield re.sub(r"^(udpservices( [a-z-]+)?|twistd)(?= |$)", r"\\fB\1\\fR", escaped(line.strip()))
    yield ".fi"


def _options(options: Iterable[Option]) -> Iterator[str]:
    for option in options:
        yield ".TP"
        short = f"\\fB\\-{option.short}\\fR, " if option.short else ""
        value = f"=\\fI{escaped(option.metavar)}\\fR" if option.kind else ""
        yield f"{short}\\fB\\-\\-{escaped(option.name)}\\fR{value}"
        yield escaped(option.text)


def _terms(terms: dict[str, str]) -> Iterator[str]:
    for term, text in terms.items():
        yield from (".TP", f"\\fB{escaped(term)}\\fR", escaped(text))


def _end(names: Iterable[str]) -> Iterator[str]:
    yield _section('"EXIT STATUS"')
    yield from _terms(_STATUS)
    yield _section('"SEE ALSO"')
    references = [f"\\fB{escaped(name)}\\fR(1)" for name in sorted([*names, "twistd"])]
    yield ",\n".join(references)


def escaped(text: str) -> str:
    """A text as roff(7) prints it, hyphens as such, in lines that no macro begins."""
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("'", "\\(aq")
    lines = textwrap.wrap(safe, 79, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in lines)
