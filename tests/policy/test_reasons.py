"""A reason has one name, wherever an operator meets it: in the log, in metrics, on the status page, in SECURITY.md."""

import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module

from tests.markdown import Page, code
from tests.support import ROOT
from udpservices import policy
from udpservices.policy.guard.reasons import Reason
from udpservices.transport.counters import UNSENT, Counters

SECURITY = Page(ROOT / "SECURITY.md").table("reason", "the datagram", "option", "held by")
FAULTS = Page(ROOT / "docs" / "faults.md").table("counter", "counts")


def reasons() -> Iterator[Reason]:
    """Those for which policies refuse."""
    for module in pkgutil.walk_packages(policy.__path__, f"{policy.__name__}."):
        yield from [one for one in vars(import_module(module.name)).values() if isinstance(one, Reason)]


def test_names_are_alike() -> None:
    """Short words with hyphens, and no two of one name."""
    by_name = {reason.name: reason for reason in reasons()}
    assert len(by_name) == len(set(reasons())) > 9
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", name) for name in by_name)
    assert not by_name.keys() & Counters().dropped_by_reason().keys()


def test_security_names_them_all() -> None:
    """With the option that changes it; what is sent has the name of an error besides."""
    told = {code(name): code(option) or "" for name, _, option, _ in SECURITY}
    options = {reason.name: reason.option for reason in reasons()}
    assert options.items() <= told.items()
    counters = Counters(refused=Counter(dict.fromkeys(options, 1)), unsent_by_error=Counter({"…": 1}))
    assert told.keys() == counters.dropped_by_reason().keys()
    assert UNSENT + "…" in told


def test_the_page_of_faults_has_each_counter() -> None:
    told = [name for counter, text in FAULTS for name in re.findall(r"`(\w+)`", counter + text)]
    assert {each.name for each in fields(Counters)} <= set(told)
