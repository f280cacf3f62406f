"""What the README, the documentation and the unit files say holds: each command that they show is run."""

import ast
import errno
import itertools
import os
import re
import runpy
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from twisted.logger import capturedLogs

from tests.markdown import Page, Section, code
from tests.sessions import Command, Session, commands
from tests.support import BIN, ROOT, run, tool
from udpservices import DatagramServiceMaker
from udpservices.endpoints import SystemdEndpoint, parse
from udpservices.options import DatagramOptions, MemberOptions
from udpservices.transport.counters import Counters

README = Page(ROOT / "README.md")
DOCS = {path.name: Page(path) for path in sorted((ROOT / "docs").glob("*.md"))}
CONTRIBUTING = Page(ROOT / "CONTRIBUTING.md")
SECURITY = Page(ROOT / "SECURITY.md")
ATTACKS = Page(ROOT / "tests" / "attacks" / "README.md")
PAGES = [README, *DOCS.values(), CONTRIBUTING, SECURITY]

#: Every Markdown file.
ALL_PAGES = [
    *(Page(path) for path in sorted(ROOT.glob("*.md"))),
    *DOCS.values(),
    ATTACKS,
    *(Page(path) for folder in ("changelog.d", "examples") for path in sorted((ROOT / folder).glob("**/*.md"))),
]

#: Commands that are shown and not run here, and why.
NOT_RUN = {
    ("README.md", "make test"): "is what runs this; test_make_… look at what it does",
    ("README.md", "pip install '.[metrics]'"): "tests/packaging installs the project in every way",
    ("docs/install.md", "pip install '.[metrics]'"): "tests/packaging installs the project in every way",
    ("docs/kubernetes.md", "kubectl apply -k config/kubernetes/deployment"): (
        "needs a cluster; tests/containers looks at what it would apply"
    ),
    ("docs/metrics.md", "promtool check config config/prometheus/prometheus.yml"): "tests/monitoring does so",
    ("docs/metrics.md", "promtool test rules config/prometheus/alerts_test.yml"): "tests/monitoring does so",
    ("docs/listening.md", "sysctl -w net.core.rmem_max=4194304"): "changes the system",
    (
        "docs/sessions.md",
        "twistd -n --pidfile= udpserve --protocol tftp.TFTP --port 69 --allow 192.0.2.0/24 --include-sessions",
    ): "tests/examples/test_tftp.py does so",
}

# ``console`` blocks are sessions; the others are files, or are looked at in tests of their own.
LANGUAGES = {"console", "python", "toml", "text"}


def makers() -> dict[str, DatagramServiceMaker]:
    names = runpy.run_path(str(ROOT / "twisted" / "plugins" / "udpservices_plugins.py"))
    return {value.tapname: value for value in names.values() if isinstance(value, DatagramServiceMaker)}


def sessions(section: Section) -> list[Command]:
    return [command for block in section.blocks if block.language == "console" for command in commands(block)]


#: Pages whose commands are run elsewhere: in a system that is made for them, or in a clone.
IN_A_SYSTEM_OF_THEIR_OWN = {
    "docs/anycast.md": "tests/clusters/anycast.py",
    "docs/container.md": "tests/containers/test_page.py",
    "docs/debian.md": "tests/debian/test_page.py",
    "docs/load-balancer.md": "tests/clusters/balancer.py",
    "docs/sizing.md": "tests/test_sizing.py",
    "docs/systemd.md": "tests/system/test_page.py",
}


def runs(section: Section) -> list[Command]:
    if section.page.name in IN_A_SYSTEM_OF_THEIR_OWN:
        return []
    return [command for command in sessions(section) if (section.page.name, command.text) not in NOT_RUN]


def recipe(target: str) -> list[str]:
    """The commands that make would run."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    planned = run(tool("make"), "--dry-run", "--no-print-directory", target, cwd=ROOT, env=clean)
    assert planned.returncode == 0, planned.stderr
    return planned.stdout.splitlines()


# Sessions and files


@pytest.mark.parametrize(
    "section", [pytest.param(one, id=one.name) for page in PAGES for one in page.sections if runs(one)]
)
def test_session_writes_what_is_shown(section: Section, tmp_path: Path) -> None:
    """In a folder with the files that the page showed so far."""
    shown = runs(section)
    instead: dict[str, str] = {}
    if "make run" in [command.text for command in shown]:
        instead["make run"] = recipe("run")[-1].replace("exec .venv/bin/", "")
    with Session(tmp_path, instead) as session:
        if any(command.text.startswith("pip ") for command in shown):
            session.use_environment_of_its_own()
        for earlier in section.page.sections:
            for block in earlier.blocks:
                if block.file_name:
                    session.write(block)
            if earlier is section:
                break
        for command in shown:
            session.run(command)
        session.finish()


def test_commands_that_are_not_run_are_shown() -> None:
    """A reason that nothing needs any more goes."""
    shown = {(page.name, command.text) for page in PAGES for section in page.sections for command in sessions(section)}
    assert set(NOT_RUN) <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_sessions_or_files_that_a_session_uses(page: Page) -> None:
    used = "\n".join(command.text for section in page.sections for command in runs(section))
    for block in page.blocks:
        where = f"{page.name}, line {block.line}"
        assert block.language in LANGUAGES, f"{where}: tests know {sorted(LANGUAGES)}"
        if block.language == "python":
            assert block.file_name, f"{where}: a python block starts with the name of its file: # shout.py"
            name = Path(block.file_name).stem
            word = "pytest" if name.startswith("test_") else name.removesuffix("_plugins")
            assert re.search(rf"\b{word}\b", used), f"{where}: no session uses {block.file_name}"


def test_write_a_service_lists_its_files() -> None:
    page = DOCS["write-a-service.md"]
    (listing,) = [block.text for block in page.blocks if block.language == "text"]
    assert listing.split() == sorted(block.file_name for block in page.blocks if block.file_name)


def test_watch_is_told_of_other_errors(tmp_path: Path) -> None:
    """What its session on loopback cannot show."""
    (block,) = [block for block in DOCS["faults.md"].blocks if block.file_name == "watch.py"]
    path = tmp_path / "watch.py"
    path.write_text(block.text)
    with capturedLogs() as logged:
        runpy.run_path(str(path))["Watch"]().errorReceived(OSError(errno.EHOSTUNREACH, "No route to host"))
    (event,) = logged
    assert event["log_format"].format(**event) == "the network says: No route to host"


# Tables


#: The kinds of commands that have a group of options, and the class of that group.
KINDS = {"responder": DatagramOptions, "member": MemberOptions}


def of_kind(kind: str) -> set[str]:
    return {name for name, maker in makers().items() if issubclass(maker.options, KINDS[kind])}


def test_commands_table() -> None:
    rows = README.table("command", "kind", "port", "what it does")
    ports = {code(name): int(port) if port.isdecimal() else None for name, _, port, _ in rows}
    assert ports == {name: maker.options().get("port") for name, maker in makers().items()}
    for kind in KINDS:
        assert {code(name) for name, stated, _, _ in rows if stated == kind} == of_kind(kind)


def test_every_command_has_a_page_with_its_own_options() -> None:
    """What it shares with others is in the page of options."""
    shared = {option.name for group in KINDS.values() for option in options_of(group())}
    for name, maker in makers().items():
        own = {option.name for option in options_of(maker.options())} - shared
        assert not [option for option in own if f"--{option}" not in DOCS[f"{name}.md"].prose], name


class Option(NamedTuple):
    letter: str | None
    name: str
    takes_value: bool


def options_of(options: Any) -> dict[Option, Any]:
    """The options of a command and their defaults."""
    letters = {name: letter for letter, name in options.synonyms.items() if len(letter) == 1}
    return {
        Option(letters.get(name), name, long.endswith("=")): options[name]
        for long in options.longOpt
        if (name := long.rstrip("=")) not in ("help", "version")
    }


def documented(cell: str) -> Option:
    match = re.fullmatch(r"`(?:-(\w), )?--([\w-]+)( [A-Z]+)?`", cell)
    assert match, f"{cell}: write `-p, --port PORT`"
    return Option(match[1], match[2], match[3] is not None)


class OptionsRow(NamedTuple):
    """A row of the table of options; an option that differs among commands has several."""

    option: Option
    commands: set[str]
    #: The cell as it is written.
    default: str


def options_table() -> list[OptionsRow]:
    rows = []
    for cell, of, default, _ in DOCS["options.md"].table("option", "of", "default", "meaning"):
        commands = set(re.findall("`([^`]+)`", of)).union(*(of_kind(kind) for kind in KINDS if f"{kind}s" in of))
        rows.append(OptionsRow(documented(cell), commands, default))
    return rows


def test_options_table() -> None:
    """Each option is in it, once for each command that has it, with its letter and its default."""
    every = {command: options_of(maker.options()) for command, maker in makers().items()}
    stated = [(row.option, command) for row in options_table() for command in row.commands]
    assert sorted(map(str, stated)) == sorted(str((one, command)) for command, own in every.items() for one in own)
    for option, owners, default in options_table():
        values = [every[command][option] for command in owners]
        if code(default):
            assert {str(value) for value in values} == {code(default)}, option.name
        else:
            assert not any(values) or len(set(values)) > 1, f"--{option.name} has the default {values[0]}"


def test_help_has_the_options_of_the_table() -> None:
    for option, owners, default in options_table():
        for command in owners:
            text = str(makers()[command].options())
            assert f"--{option.name}{'=' if option.takes_value else ''} " in text
            assert not code(default) or f"[default: {code(default)}]" in " ".join(text.split())


def test_counters_table() -> None:
    """What is summed up by a property stands beside it."""
    names = [name for cell, _ in DOCS["faults.md"].table("counter", "counts") for name in re.findall(r"`(\w+)`", cell)]
    assert [name for name in names if not isinstance(getattr(Counters, name), property)] == list(Counters.__slots__)


def test_listen_table() -> None:
    """Each spelling is one, and the two of 9999 are the same."""
    rows = DOCS["listening.md"].table("`--listen`", "listens on")
    for cell, meaning in rows:
        for spelling in [code(cell) or "", *re.findall(r"`((?:udp|fd|systemd):[^`]+)`", meaning)]:
            parse(spelling)
    assert parse("udp:9999") == parse("9999")


# Tests that pages name


def names_of_tests(path: Path) -> set[str]:
    """The names of a file's tests, as pytest has them, without parameters."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        found |= {
            f"{prefix}{one.name}" for one in inside if isinstance(one, functions) and one.name.startswith("test_")
        }
    return found


def named_tests(text: str) -> dict[str, set[str]]:
    """The tests that a text names, by their files in tests/."""
    found: dict[str, set[str]] = {}
    for path, name in re.findall(r"`([\w/]+\.py)::([\w:]+)`", text):
        found.setdefault(path, set()).add(name)
    return found


def test_every_claim_of_security_is_held_by_tests() -> None:
    """Each row of its tables names some, and they exist."""
    rows = [line for line in SECURITY.prose.splitlines() if line.startswith("| ") and "| held by |" not in line]
    for row in (row for row in rows if not row.startswith("| ---")):
        assert named_tests(row), row
    for path, names in named_tests(SECURITY.prose).items():
        assert names <= names_of_tests(ROOT / "tests" / path), path


def test_every_loss_is_measured() -> None:
    """Each row of the tables of what is lost names tests, and they exist."""
    rows = [row for page in DOCS.values() if "| measured by |" in page.prose for row in _losses(page)]
    assert rows
    for row in rows:
        named = named_tests(row)
        assert named, row
        for path, names in named.items():
            assert names <= names_of_tests(ROOT / "tests" / path), row


def _losses(page: Page) -> list[str]:
    lines = page.prose.splitlines()
    start = next(index for index, line in enumerate(lines) if "| measured by |" in line) + 2
    return list(itertools.takewhile(lambda line: line.startswith("|"), lines[start:]))


def test_every_test_of_an_attack_is_in_the_table() -> None:
    """And those that are, exist."""
    named = named_tests(ATTACKS.prose)
    for path in sorted((ROOT / "tests" / "attacks").glob("test_*.py")):
        assert named.get(path.name) == names_of_tests(path), path.name


# Make, the changelog and links


def test_make_run_serves_udpecho() -> None:
    assert recipe("run")[-1] == "exec .venv/bin/twistd -n --pidfile= udpecho --port 9999"


def test_make_test_lints_type_checks_and_tests() -> None:
    tools = {line.partition(" ")[0] for line in recipe("test")}
    assert {f".venv/bin/{name}" for name in ("ruff", "mypy", "pytest")} <= tools


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ALL_PAGES:
        named = set(re.findall(r"(?:`|\$ )make ([a-z]+)", page.path.read_text()))
        assert named <= targets, page.name


def test_changelog_can_be_built() -> None:
    """Every fragment has a kind and lands in the changelog."""
    draft = run(BIN / "towncrier", "build", "--draft", "--version", "99.0", cwd=ROOT)
    assert draft.returncode == 0, draft.stderr
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    for fragment in fragments:
        assert re.fullmatch(r"\+[\w-]+\.(feature|change|fix)\.md", fragment.name), fragment.name
        assert fragment.read_text().strip().splitlines()[0] in draft.stdout
    assert "<!-- changelog starts -->\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        if link.startswith("https://"):
            continue
        path, _, fragment = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), f"{page.name}: {link}"
        assert not fragment or fragment in Page(target).anchors, f"{page.name}: {link}"


def test_index_has_every_page() -> None:
    assert set(DOCS["README.md"].links) >= set(DOCS) - {"README.md"}


# Unit files; tests/system runs them

UNITS = ROOT / "config" / "systemd"


def settings(unit: str) -> dict[str, list[str]]:
    """The settings of a unit file."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_units_are_accepted_by_systemd(tmp_path: Path) -> None:
    """With the command that is here."""
    for path in UNITS.glob("*.*"):
        text = path.read_text().replace("/opt/udpservices/bin/udpservices", str(BIN / "udpservices"))
        (tmp_path / path.name.replace("@", "@udptime")).write_text(text)
    verified = run(tool("systemd-analyze"), "verify", *sorted(tmp_path.glob("*.service")))
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_units_hand_over_what_the_service_takes() -> None:
    service, sockets = settings("udpecho.service"), settings("udpecho.socket")
    (line,) = service["ExecStart"]
    program, command, listen, endpoint = shlex.split(line)
    assert program == "/opt/udpservices/bin/udpservices"
    options = makers()[command].options()
    options.parseOptions([listen, endpoint])
    (name,) = sockets["FileDescriptorName"]
    assert options.endpoints == [SystemdEndpoint(name)]
    assert service["Requires"] == ["udpecho.socket"]


def test_units_open_the_port_of_the_readme_in_both_families() -> None:
    sockets = settings("udpecho.socket")
    assert sockets["ListenDatagram"] == ["0.0.0.0:9999", "[::]:9999"]
    assert sockets["BindIPv6Only"] == ["ipv6-only"]


def test_what_is_lost_is_measured() -> None:
    """Each row names a test."""
    for page in ("systemd.md", "workers.md"):
        for row in DOCS[page].table("event", "lost", "measured by"):
            ((path, names),) = named_tests(row[2]).items()
            assert names <= names_of_tests(ROOT / "tests" / path), row
