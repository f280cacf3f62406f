"""The services on the page: what each does now, its course, its endpoints, and what it dropped."""

from collections.abc import Mapping, Sequence
from typing import Any

from udpservices.observe.web.elements import Markup, column, element, figure, mark, number, numbers, row_head, table
from udpservices.observe.web.report import seldom

_BESIDES = {
    "filtered": "by the kernel's filter, about",
    "would_refuse": "but for a dry run",
    "network_errors": "network errors",
    "protocol_errors": "exceptions of the protocol",
    "policy_errors": "exceptions of the policies",
    "port_errors": "exceptions of the port",
}


def services(found: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """A section each; none says so."""
    if not found:
        return [element("p", "No service runs.", class_="empty")]
    return [_service(f"services.{index}", f"service-{index}", one) for index, one in enumerate(found)]


def _service(path: str, label: str, one: Mapping[str, Any]) -> Markup:
    return element(
        "section",
        element(
            "div",
            element("h2", one["name"], id=label),
            _health(one["health"]),
            _now(path, one),
            class_="head",
        ),
        _charts(one["name"]),
        element("div", _endpoints(path, label, one), _reasons(path, label, one), class_="tables"),
        class_="card",
        aria_labelledby=label,
        data_service=one["name"],
    )


def _health(health: Mapping[str, Any] | None) -> Markup:
    if health is None:
        return Markup("")
    if health["is_well"]:
        return mark("good", "well")
    return mark("bad", f"not well: {health['why']}" if health["why"] else "not well")


def _now(path: str, one: Mapping[str, Any]) -> Markup:
    """The numbers that one looks for first."""
    tiles = [
        (kind.capitalize(), kind, f"{path}.{kind}.rate", "rate", one[kind]["rate"])
        for kind in ("received", "answered", "dropped")
    ]
    tiles += [
        (f"Latency {name}", name, f"{path}.latency.{name}", "seconds", one["latency"][name]) for name in ("p50", "p99")
    ]
    return element(
        "dl",
        *(
            element("div", element("dt", title, class_=f"key {kind}"), figure("dd", where, unit, value))
            for title, kind, where, unit, value in tiles
        ),
        class_="now",
    )


def _charts(name: str) -> Markup:
    """Where the script draws; without it there is no room taken."""
    titles = {"rates": "Datagrams a second", "latency": "Arrival to answer"}
    charts = [
        element("figure", element("figcaption", title), element("div", role="img", class_="chart", **more))
        for kind, title in titles.items()
        for more in [{"data_chart": kind, "aria_label": f"{title}, {name}: the last minutes"}]
    ]
    return element("div", *charts, class_="charts")


def _endpoints(path: str, label: str, one: Mapping[str, Any]) -> Markup:
    endpoints = one["endpoints"]
    titles = {"tracked": "Limited", "connections": "TCP"}
    more = [(key, titles[key]) for key in seldom(endpoints)]
    counted = ("received", "answered", "dropped")
    heads = [
        element(
            "tr",
            column("Endpoint", rowspan="2"),
            column("Family", rowspan="2"),
            *(element("th", kind.capitalize(), scope="colgroup", colspan="2", class_="group") for kind in counted),
            element("th", "Latency", scope="colgroup", colspan="2", class_="group"),
            element("th", "Queue", scope="colgroup", colspan="2", class_="group"),
            *(numbers(title, rowspan="2") for _, title in more),
        ),
        element(
            "tr",
            *(numbers(text) for _ in counted for text in ("now", "total")),
            *(numbers(text) for text in ("p50", "p99", "waits", "room")),
        ),
    ]
    rows = []
    for index, each in enumerate(endpoints):
        at = f"{path}.endpoints.{index}"
        rows.append(
            element(
                "tr",
                row_head(each["endpoint"]),
                element("td", each["family"]),
                *(
                    number(f"{at}.{kind}.{key}", unit, each[kind][key])
                    for kind in counted
                    for key, unit in (("rate", "rate"), ("total", "count"))
                ),
                *(number(f"{at}.latency.{key}", "seconds", each["latency"][key]) for key in ("p50", "p99")),
                *(number(f"{at}.{key}", "size", each[key]) for key in ("queued", "room")),
                *(number(f"{at}.{key}", "count", each[key]) for key, _ in more),
            )
        )
    return table("h3", f"{label}-endpoints", "Endpoints", heads, rows)


def _reasons(path: str, label: str, one: Mapping[str, Any]) -> Markup:
    """What was dropped, and what went wrong."""
    rows = [
        element(
            "tr",
            row_head(each["reason"]),
            number(f"{path}.reasons.{index}.rate", "rate", each["rate"]),
            number(f"{path}.reasons.{index}.total", "count", each["total"]),
        )
        for index, each in enumerate(one["reasons"])
    ]
    rows += [
        element("tr", row_head(text), element("td"), number(f"{path}.besides.{kind}", "count", one["besides"][kind]))
        for kind, text in _BESIDES.items()
        if one["besides"][kind]
    ]
    if not rows:
        return element("p", "Nothing dropped, no errors.", class_="empty")
    heads = [element("tr", column("Reason"), numbers("now"), numbers("total"))]
    return table("h3", f"{label}-reasons", "Dropped, and failed", heads, rows)
