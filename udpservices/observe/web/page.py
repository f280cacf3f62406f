"""The status page as a document: complete without a script, which only goes on with its numbers.

Parts of it have a shape: where the report's is another one, the script asks for the page again and takes the part.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from udpservices.observe.web.elements import Markup, column, element, figure, mark, number, numbers, row_head, table
from udpservices.observe.web.services import services

# A dot in a ring; a page's icon is asked for elsewhere otherwise.
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='6' "
    "fill='none' stroke='%232563eb' stroke-width='2'/%3E%3Ccircle cx='8' cy='8' r='2.5' fill='%232563eb'/%3E%3C/svg%3E"
)


def document(report: Mapping[str, Any], paths: Mapping[str, str]) -> bytes:
    """The page in HTML; `paths` are those of its files, by name."""
    process = report["process"]
    parts = {
        "services": services(report["services"]),
        "workers": _workers(report["workers"]),
        "members": _members(report["members"]),
        "lines": _lines(report["lines"]),
    }
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("title", f"{process['host']}: udpservices"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("link", rel="icon", href=_ICON),
            element("link", rel="stylesheet", href=paths["page.css"]),
            element("script", src=paths["page.js"], defer="", data_charts=paths["charts.js"]),
        ),
        element(
            "body",
            element("a", "Skip to the services", href="#main", class_="skip"),
            _header(report),
            element(
                "main", *(_part(report, name, content) for name, content in parts.items()), id="main", tabindex="-1"
            ),
            element("footer", _part(report, "process", _footer(process))),
        ),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{page}\n".encode(errors="replace")  # a path may have what is no text


def _part(report: Mapping[str, Any], name: str, content: Sequence[Markup], **more: str) -> Markup:
    return element("div", *content, data_part=name, data_shape=report["shapes"][name], **more)


def _header(report: Mapping[str, Any]) -> Markup:
    process, total = report["process"], report["total"]
    facts = [
        ("Up", "process.uptime", "span", process["uptime"]),
        *((kind.capitalize(), f"total.{kind}.rate", "rate", total[kind]["rate"]) for kind in total),
        ("Reactor late", "process.lag", "seconds", process["lag"]),
    ]
    return element(
        "header",
        element(
            "div",
            element(
                "h1",
                element("span", "udpservices", class_="brand"),
                " ",
                element("span", process["host"], class_="host"),
            ),
            _part(report, "state", _state(process), role="status"),
            element("p", id="link", role="status", class_="link"),
            class_="title",
        ),
        element(
            "noscript",
            element("p", "These are the numbers of one moment: without JavaScript, reload the page for newer ones."),
        ),
        element(
            "dl",
            *(
                element("div", element("dt", name), figure("dd", path, kind, value))
                for name, path, kind, value in facts
            ),
            class_="facts",
        ),
    )


def _state(process: Mapping[str, Any]) -> list[Markup]:
    """Whether it serves, and what became of the last reload."""
    if process["is_draining"]:
        marks = [mark("warn", "draining: it ends soon")]
    elif not process["is_ready"]:
        marks = [mark("bad", f"not ready: {process['why']}")]
    else:
        marks = [mark("good", "serving")]
    reloads = process["reloads"]
    if not reloads["is_good"]:
        marks.append(mark("bad", "the last reload failed, and the services are what they were"))
    elif reloads["succeeded"]:
        marks.append(element("span", "reloaded ", _time(reloads["last_success"]), class_="aside"))
    return marks


def _time(when: float) -> Markup:
    moment = datetime.fromtimestamp(when).astimezone()
    return element("time", moment.strftime("%b %d %H:%M:%S %Z"), datetime=moment.isoformat(timespec="seconds"))


def _section(name: str, *content: Markup) -> list[Markup]:
    return [element("section", *content, class_="card", aria_labelledby=name)]


def _workers(found: Sequence[Mapping[str, Any]]) -> list[Markup]:
    if not found:
        return []
    heads = [
        element(
            "tr",
            column("Worker"),
            column("State"),
            numbers("Process"),
            numbers("Restarts"),
            numbers("Reactor late"),
            numbers("Heard"),
        )
    ]
    rows = [
        element(
            "tr",
            row_head(f"{one['lane']}"),
            element("td", mark(*_worker(one))),
            element("td", str(one["pid"] or "–"), class_="number"),  # noqa: RUF001
            number(f"workers.{index}.restarts", "count", one["restarts"]),
            number(f"workers.{index}.lag", "seconds", one["lag"]),
            number(f"workers.{index}.silence", "span", one["silence"]),
        )
        for index, one in enumerate(found)
    ]
    return _section("workers", table("h2", "workers", "Workers", heads, rows))


def _worker(one: Mapping[str, Any]) -> tuple[str, str]:
    if one["is_up"]:
        return "good", "serving"
    return ("bad", "silent") if one["state"] == "serving" else ("warn", one["state"])


def _members(found: Sequence[Mapping[str, Any]]) -> list[Markup]:
    if not found:
        return []
    heads = [element("tr", column("Member"), column("Group"), column("Heard by"), numbers("Heard"))]
    rows = [
        element(
            "tr",
            row_head(one["peer"]),
            element("td", one["group"]),
            element("td", one["service"]),
            number(f"members.{index}.silence", "span", one["silence"]),
        )
        for index, one in enumerate(found)
    ]
    return _section("members", table("h2", "members", "Members heard of late", heads, rows))


def _lines(found: Sequence[Mapping[str, Any]]) -> list[Markup]:
    if not found:
        return []
    kinds = {"warn": ("warn", "warning"), "error": ("bad", "error"), "critical": ("bad", "critical")}
    items = [
        element(
            "li",
            _time(one["when"]),
            mark(*kinds.get(one["level"], ("none", one["level"]))),
            element("span", one["text"], class_="text"),
        )
        for one in reversed(found)
    ]
    return _section("lines", element("h2", "From the log", id="lines"), element("ol", *items, class_="log"))


def _footer(process: Mapping[str, Any]) -> list[Markup]:
    versions = f"udpservices {process['version']}, Twisted {process['twisted']}, Python {process['python']}"
    links = ("metrics", "healthz", "readyz", "status.json")
    return [
        element("p", f"{versions}, process {process['pid']}, started ", _time(process["started"])),
        element("nav", *(element("a", f"/{name}", href=f"/{name}") for name in links), aria_label="For programs"),
    ]
