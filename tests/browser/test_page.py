"""The status page in a real browser, of a real service."""

import socket

import pytest

from tests.browser.chromium import Browser, Page
from tests.browser.conftest import Echo, serving_echo
from tests.support import ask, udp_socket

SIZES = {"wide": (1280, 900), "narrow": (360, 740)}

# Remembers each source of events that a page opens.
KNOWN_STREAMS = """
    window.streams = [];
    window.EventSource = class extends EventSource {
        constructor(url) { super(url); streams.push(this); }
    };
"""


def total(page: Page, kind: str) -> str:
    """What the table of endpoints says of the first one."""
    return page.text(f'td[data-path="services.0.endpoints.0.{kind}.total"]')


def wait_for_total(page: Page, kind: str, text: str) -> None:
    cell = f"""document.querySelector('td[data-path="services.0.endpoints.0.{kind}.total"]')"""
    page.wait_for(f"{cell}?.textContent === '{text}'")


def test_numbers_are_those_of_the_datagrams(browser: Browser, echo: Echo) -> None:
    """While they flow: what is received, answered and dropped, and why, which the page did not have when it came."""
    page = browser.open(echo.url)
    page.wait_for_text("live", "#link")
    assert total(page, "received") == "0"
    assert "denied" not in page.text()
    for number in range(1234):
        assert ask("127.0.0.1", echo.port, b"%d" % number) == b"%d" % number
    wait_for_total(page, "received", "1,234")
    wait_for_total(page, "answered", "1,234")
    assert total(page, "dropped") == "0"
    with udp_socket("127.0.0.2") as refused:
        for _ in range(5):
            refused.sendto(b"?", ("127.0.0.1", echo.port))
        page.wait_for_text("denied", "section[data-service=udpecho]")
        wait_for_total(page, "dropped", page.text('td[data-path="services.0.reasons.0.total"]'))
    page.wait_for_text("well", "section[data-service=udpecho] .head")
    assert page.said == []
    page.close()


def test_rate_is_shown_while_datagrams_flow(browser: Browser, echo: Echo) -> None:
    """And goes back to nothing."""
    page = browser.open(echo.url)
    cell = """document.querySelector('dd[data-path="services.0.received.rate"]').textContent"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", echo.port))
        moving = f"({cell} !== '0/s')"
        while not page.evaluate(moving):
            for _ in range(20):
                client.send(b"x")
    page.wait_for(f"{cell} === '0/s'")
    page.wait_for("document.querySelectorAll('canvas').length === 2")
    page.close()


def test_page_survives_a_restart_of_the_service(browser: Browser) -> None:
    """It says that it lost the connection, and goes on with the new process, without being loaded again."""
    with serving_echo() as first:
        page = browser.open(first.url)
        page.wait_for_text("live", "#link")
        ask("127.0.0.1", first.port, b"x")
        wait_for_total(page, "received", "1")
        page.evaluate("window.isTheSame = true")
        first.process.stop()
        page.wait_for_text("connection lost, trying again", "#link")
        assert page.evaluate("document.title").startswith("(lost) ")
    with serving_echo(port=first.port, web=first.web) as second:
        page.wait_for_text("live", "#link")
        page.wait_for_text(f"process {second.process.pid}", "footer")
        wait_for_total(page, "received", "0")
        ask("127.0.0.1", second.port, b"x")
        wait_for_total(page, "received", "1")
        assert not page.evaluate("document.title").startswith("(lost) ")
    assert page.evaluate("window.isTheSame")
    lost = ("net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_CONNECTION_RESET")
    assert [line for line in page.said if not any(word in line for word in lost)] == []
    page.close()


def test_page_that_nobody_sees_asks_for_nothing(browser: Browser, echo: Echo) -> None:
    """And goes on where it is seen again."""
    page = browser.open(echo.url, first=KNOWN_STREAMS)
    page.wait_for_text("live", "#link")
    open_streams = "streams.filter(({ readyState }) => readyState !== EventSource.CLOSED).length"
    assert page.evaluate(open_streams) == 1
    show = "Object.defineProperty(document, 'hidden', {{ value: {}, configurable: true }});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(show.format("true") + tell)
    assert page.evaluate(open_streams) == 0
    ask("127.0.0.1", echo.port, b"x")
    page.evaluate(show.format("false") + tell)
    wait_for_total(page, "received", "1")
    assert page.evaluate(open_streams) == 1
    assert page.text("#link") == "live"
    assert page.said == []
    page.close()


# All that a page can have


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_everybody_can_use_it(browser: Browser, busy: str, size: str, scheme: str) -> None:
    """axe-core finds nothing; the page does not scroll to the side; nothing is asked of anybody else."""
    page = browser.open(busy, size=SIZES[size], scheme=scheme)
    page.wait_for_text("live", "#link")
    page.wait_for("document.querySelectorAll('canvas').length === 4")
    assert page.audit() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.said == []
    assert page.asked == [busy.rstrip("/")]
    assert page.evaluate("document.cookie") == ""
    page.close()


def test_every_region_is_reached_by_keyboard(browser: Browser, busy: str) -> None:
    """The first key leads past the head; each table that can be scrolled has the focus, and shows it."""
    page = browser.open(busy, size=SIZES["narrow"])
    page.press("Tab")
    assert page.text(":focus") == "Skip to the services"
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(page.evaluate("document.querySelectorAll('.scroll').length")):
        page.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-labelledby')"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == set(
        page.evaluate("[...document.querySelectorAll('.scroll')].map((one) => one.getAttribute('aria-labelledby'))")
    )
    page.close()


def test_only_changes_of_state_are_read_aloud(browser: Browser, busy: str) -> None:
    """Numbers that go on each second stand in no live region."""
    page = browser.open(busy)
    live = "[role=status], [role=alert], [role=log], [aria-live]"
    assert page.evaluate(f"document.querySelectorAll('{live}').length") == 2
    assert page.evaluate(f"[...document.querySelectorAll('{live}')].every((one) => !one.querySelector('[data-path]'))")
    page.close()


@pytest.mark.parametrize("size", SIZES)
def test_page_is_whole_without_javascript(browser: Browser, echo: Echo, size: str) -> None:
    ask("127.0.0.1", echo.port, b"x")
    page = browser.open(echo.url, size=SIZES[size], script=False)
    assert "without JavaScript, reload the page" in page.text()
    assert total(page, "received") == "1"
    assert "Nothing dropped" in page.text()
    assert not page.evaluate("document.querySelector('.charts').checkVisibility()")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
