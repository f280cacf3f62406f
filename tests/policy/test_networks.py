"""Networks, one by one and in files."""

import os
import sys
import threading
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import descriptors, run
from udpservices.net import files
from udpservices.policy import networks
from udpservices.policy.networks import MAX_LINE, Network, Networks, parse_network, read_networks


def refusal(text: str) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        parse_network(text)
    return str(error.value)


class TestParsing:
    @pytest.mark.parametrize("text", ["192.0.2.0/24", "192.0.2.7/32", "0.0.0.0/0", "2001:db8::/32", "::1/128", "::/0"])
    def test_a_network(self, text: str) -> None:
        assert str(parse_network(text)) == text

    @pytest.mark.parametrize(("text", "whole"), [("192.0.2.7", "192.0.2.7/32"), ("2001:DB8::1", "2001:db8::1/128")])
    def test_an_address(self, text: str, whole: str) -> None:
        assert str(parse_network(text)) == whole

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("192.0.2.7/24", "has bits below its prefix: write 192.0.2.0/24"),
            ("2001:db8::1/32", "has bits below its prefix: write 2001:db8::/32"),
            ("::ffff:192.0.2.0/120", "write an IPv4 network as such, 192.0.2.0/24"),
            ("::ffff:192.0.2.1", "write an IPv4 network as such, 192.0.2.1/32"),
        ],
    )
    def test_what_would_be_one_written_otherwise(self, text: str, why: str) -> None:
        assert refusal(text) == why

    @pytest.mark.parametrize(
        "text",
        [
            *("", "example.org", "192.0.2.0/33", "192.0.2/24", "192.0.2.0/255.255.255.0", "::/129", "/8", "1", "::1/"),
            *("fe80::%eth0/64", "fe80::1%eth0", "192.0.2.0/24 ", "192.0.2.0/-1", "192.0.2.0/\u0662\u0664"),
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        assert refusal(text) == "must be a network such as 192.0.2.0/24 or 2001:db8::/32, or an address"


TEXTS = st.one_of(
    st.ip_addresses().map(str),
    st.builds("{}/{}".format, st.ip_addresses(), st.integers(0, 130)),
    st.sampled_from(
        ["::ffff:192.0.2.0/120", "::ffff:0:0/95", "192.0.2.0/024", "192.0.2.01", "1:2:3:4:5:6:7::", "::/+0"]
    ),
    st.text("0123456789abcdef.:/", max_size=20),
)


@given(TEXTS)
def test_the_quick_way_reads_the_same(text: str) -> None:
    """What a file says means what an option says."""
    found = networks._quickly(text)
    if found is not None:
        network = parse_network(text)
        assert found == (network.version, int(network.network_address), network.prefixlen)


@given(st.lists(st.ip_addresses().map(ip_network)))
def test_networks_come_back(some: list[Network]) -> None:
    made = Networks(some)
    assert len(made) == len(some)
    assert sorted(map(str, made)) == sorted(map(str, some))
    twice = Networks(some)
    twice.update(made)
    assert len(twice) == 2 * len(some)


class TestFiles:
    def test_a_network_a_line(self, tmp_path: Path) -> None:
        path = tmp_path / "networks"
        path.write_text("# ours\n192.0.2.0/24\n\n  2001:db8::/32  # and theirs\n")
        assert [str(one) for one in read_networks(str(path))] == ["192.0.2.0/24", "2001:db8::/32"]

    def test_as_editors_of_windows_write_it(self, tmp_path: Path) -> None:
        """With a byte order mark, and lines that end otherwise."""
        path = tmp_path / "networks"
        path.write_bytes(b"\xef\xbb\xbf192.0.2.0/24\r\n2001:db8::/32\r\n")
        assert [str(one) for one in read_networks(str(path))] == ["192.0.2.0/24", "2001:db8::/32"]

    def test_what_is_wrong_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "networks"
        path.write_text("192.0.2.0/24\n192.0.2.1/24\n")
        with pytest.raises(
            ValueError, match=r"^line 2: 192\.0\.2\.1/24: has bits below its prefix: write 192\.0\.2\.0/24$"
        ):
            read_networks(str(path))
        with pytest.raises(ValueError, match=r"^No such file or directory$"):
            read_networks(str(tmp_path / "missing"))
        path.write_bytes(b"\xff")
        with pytest.raises(ValueError, match=r"^is no text in UTF-8$"):
            read_networks(str(path))

    @pytest.mark.parametrize(
        "text", ["192.0.2.0/24\r2001:db8::/32\r", "192.0.2.0/24\x0c2001:db8::/32", "\n\n#\n192.0.2.0/24 # x\n::1"]
    )
    def test_lines(self, tmp_path: Path, text: str) -> None:
        """They end as Python's do, the last one where the file does."""
        path = tmp_path / "networks"
        path.write_bytes(text.encode())
        assert len(read_networks(str(path))) == 2

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1 << 18])
    def test_in_pieces(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        """Wherever they are cut, lines and their numbers stay."""
        path = tmp_path / "networks"
        read = os.read
        monkeypatch.setattr(os, "read", lambda descriptor, _: read(descriptor, size))
        path.write_bytes(b"\xef\xbb\xbf192.0.2.0/24\r\n# \xc3\xbc\r\n2001:db8::/32")
        assert [str(one) for one in read_networks(str(path))] == ["192.0.2.0/24", "2001:db8::/32"]
        path.write_bytes(b"192.0.2.0/24\r\n\r\n# \xc3\xbc\n192.0.2.1/24")
        with pytest.raises(ValueError, match=r"^line 4: 192\.0\.2\.1/24: has bits below"):
            read_networks(str(path))
        path.write_bytes(b"\xef\xbb")
        with pytest.raises(ValueError, match=r"^is no text in UTF-8$"):
            read_networks(str(path))

    def test_nothing(self, tmp_path: Path) -> None:
        assert not read_networks("/dev/null")
        (tmp_path / "networks").write_bytes(b"\xef\xbb\xbf")
        assert not read_networks(str(tmp_path / "networks"))

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("/dev/zero", f"^line 1: is longer than {MAX_LINE} bytes$"),
            ("/dev/urandom", r"^is no text in UTF-8$|^line 1: "),
            ("/", r"^Is a directory$"),
        ],
    )
    def test_no_file(self, name: str, why: str) -> None:
        before = descriptors()
        with pytest.raises(ValueError, match=why):
            read_networks(name)
        assert descriptors() == before

    def test_too_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A sparse file, or what somebody writes to without end."""
        path = tmp_path / "networks"
        path.write_text("192.0.2.1\n" * 200_000)
        monkeypatch.setattr(files, "MAX_FILE", 1 << 20)
        with pytest.raises(ValueError, match=r"^is longer than 1M$"):
            read_networks(str(path))

    def test_fifo(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is read to its end, if that comes soon, and nobody need write to it yet."""
        path = tmp_path / "fifo"
        os.mkfifo(path)
        writer = threading.Thread(target=lambda: path.write_text("192.0.2.0/24\n::1\n"))
        writer.start()
        assert len(read_networks(str(path))) == 2
        writer.join()
        monkeypatch.setattr(files, "PATIENCE", 0.05)
        with pytest.raises(ValueError, match=r"^has not come to its end in 0\.05 s, and is no regular file$"):
            read_networks(str(path))
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.write(descriptor, b"192.0.2.0/24\n")
            with pytest.raises(ValueError, match="has not come to its end"):
                read_networks(str(path))
        finally:
            os.close(descriptor)

    def test_pipes_of_a_shell(self) -> None:
        """Standard input, and what bash calls a process substitution."""
        script = (
            "import sys; from udpservices.policy.networks import read_networks; print(len(read_networks(sys.argv[1])))"
        )
        for words in ("echo ::1 | {} /dev/stdin", "{} <(echo ::1)", "{} /dev/stdin <<< ::1"):
            done = run("bash", "-c", words.format('"$0" -c "$1"'), sys.executable, script)
            assert (done.stdout, done.stderr) == ("1\n", "")
