"""The Debian package in a guest: installed, started by a datagram, upgraded under load, removed, purged."""

from pathlib import Path

from tests.debian.conftest import install
from tests.support import wait_until
from tests.system.guest import Guest
from tests.system.units import WARNING, Unit

_UNITS = ("udpecho.service", "udpecho.socket", "udpservices.service")

#: What the 8 MiB of a socket unit hold for 20 s, also of a machine that is busy, in datagrams a second.
_RATE = 1000

#: What a socket whose buffer is the kernel's default holds for seconds.
_LITTLE = 50


def test_lintian_has_nothing_to_say(workshop: Guest, package: Path) -> None:
    """What it would say, an override has a reason for."""
    words = ("lintian", "--allow-root", "--display-info", "--pedantic", "--fail-on", "error,warning,info,pedantic")
    told = workshop.does("sh", "-c", f"{' '.join(words)} /root/built/*.changes", timeout=300)
    assert told == ""


def _complaints(unit: Unit) -> list[str]:
    """What it logged, and systemd of it, that is not as it should be, but for what this machine lacks."""
    return [text for text in unit.logged("", WARNING) if "net.core.rmem_max" not in text and "pids.max" not in text]


class TestInstalled:
    def test_nothing_serves_before_somebody_says_so(self, guest: Guest) -> None:
        for unit in _UNITS:
            assert guest.run("systemctl", "is-enabled", unit).stdout.strip() == "disabled"
            assert guest.run("systemctl", "is-active", unit).stdout.strip() == "inactive"

    def test_files_are_where_debian_has_them(self, guest: Guest, expected: set[str]) -> None:
        """Commands of ours and Twisted's; samples that are right, pages, completion; units that systemd accepts."""
        helped = guest.does("udpservices", "--help")
        twisted = guest.does("twistd3", "--help")
        assert not [name for name in expected if f" {name} " not in helped or f" {name} " not in twisted]
        assert guest.does("udpservices", "share", "docs") == "/usr/share/udpservices/docs\n"
        checked = guest.does("udpservices", "--config", "/etc/udpservices.toml", "--check")
        assert checked == "/etc/udpservices.toml: 1 service, all options right\n"
        assert guest.does("udpservices", "--config", "/usr/share/udpservices/config/udpservices.toml", "--check")
        for path in (
            "bash-completion/completions/twistd3",
            "doc/udpservices/docs/README.md",
            "fish/vendor_completions.d/udpservices.fish",
            "man/man1/udpservices-udpecho.1.gz",
            "zsh/vendor-completions/_udpservices",
        ):
            guest.does("test", "-e", f"/usr/share/{path}")
        verified = guest.run("systemd-analyze", "verify", "--man=no", *_UNITS, "udp@udptime.service")
        assert verified.stdout + verified.stderr == ""

    def test_the_first_datagram_starts_it(self, guest: Guest) -> None:
        unit = Unit(guest, "udpecho")
        unit.does("enable", "--now", of="socket")
        assert unit.show("ActiveState") == "inactive"
        assert guest.ask() == b"hello"
        assert guest.ask(host="::1") == b"hello"
        assert unit.is_served()
        assert _complaints(unit) == []

    def test_file_of_services(self, guest: Guest) -> None:
        """It serves as the package's user, whose log files outlive it, and reads its file again."""
        unit = Unit(guest, "udpservices")
        log = "/var/log/udpservices/udpservices.log"
        command = "/usr/bin/udpservices --config /etc/udpservices.toml"
        unit.add("log", f"[Service]\nExecStart=\nExecStart={command} --log-file {log}\n")
        unit.does("enable", "--now")
        assert guest.ask(port=9990) == b"hello"
        owner = guest.does("stat", "--format=%U", f"/proc/{unit.pid}", log)
        assert owner.split() == ["udpservices"] * 2
        with (guest.root / "etc" / "udpservices.toml").open("a") as file:
            file.write('[udplength]\nlisten = "127.0.0.1:1060"\n')
        unit.does("reload")
        assert guest.ask(port=1060) == b"Your data was 5 bytes long"
        guest.does("mv", log, f"{log}.1")
        unit.does("kill", "--signal=USR1", "--kill-whom=main")
        wait_until((guest.root / log.lstrip("/")).exists, "a new log file")
        assert _complaints(unit) == []

    def test_sample_of_an_instance(self, guest: Guest) -> None:
        unit = Unit(guest, "udp@udptime")
        unit.does("start")
        assert len(guest.ask(b"", port=3737)) == 4
        assert _complaints(unit) == []


def test_upgrade_under_load(own: Guest, newer: Path) -> None:
    """What systemd holds the socket of is restarted; the others become the new version. Neither loses a datagram."""
    echo, bundle, instance = Unit(own, "udpecho"), Unit(own, "udpservices"), Unit(own, "udp@udptime")
    echo.does("enable", "--now", of="socket")
    echo.does("enable", "--now")
    bundle.does("enable", "--now")
    instance.does("start")
    before = (echo.pid, bundle.pid, instance.pid)
    with own.load(_RATE) as load, own.load(_LITTLE, port=9990) as little:
        load.keeps_up()
        install(own, newer)
        wait_until(lambda: bundle.logged("listening on")[2:], "the new version")
        load.keeps_up()
        assert (load.end(), little.end()) == (0, 0)
    assert bundle.logged("SIGUSR2: the new version takes over")
    instance.wait_for("SIGUSR2: the new version takes over")
    assert (echo.pid == before[0], bundle.pid, instance.pid) == (False, *before[1:])
    assert "udpservices 99.0" in own.does("udpservices", "--version")
    assert own.does("systemctl", "is-enabled", *_UNITS).split() == ["enabled"] * 3
    for unit in (echo, bundle, instance):
        assert _complaints(unit) == []


def test_remove_and_purge(own: Guest) -> None:
    """Removed, nothing serves and its settings stay; purged, nothing is left, and Twisted goes on without it."""
    echo, bundle = Unit(own, "udpecho"), Unit(own, "udpservices")
    echo.does("enable", "--now", of="socket")
    bundle.does("enable", "--now")
    assert (own.ask(), own.ask(port=9990)) == (b"hello", b"hello")
    with own.load(_LITTLE) as load:
        load.sends(1)
        own.does("apt-get", "remove", "--yes", "--quiet=2", "udpservices", timeout=300)
        load.end()
    assert own.does("systemctl", "list-units", "--plain", "--no-legend", "--state=active", "udp*") == ""
    assert (own.root / "etc" / "udpservices.toml").exists()
    own.does("apt-get", "purge", "--yes", "--quiet=2", "udpservices", timeout=300)
    found = own.does("find", "/etc", "/usr", "/var/log", "/var/lib/systemd", "-name", "*udp[ensd@]*").split()
    kept = ("/usr/lib/modules", "/usr/share/bash-completion/completions/nsupdate")
    assert [path for path in found if not path.startswith(kept)] == []
    assert "udpecho" not in own.does("twistd3", "--help")
