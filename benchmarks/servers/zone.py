"""What the DNS servers serve (``--pyzone``); `c/load.c` asks for the second one."""
# mypy: disable-error-code="name-defined"
# ruff: noqa: F821

# Whoever runs this gives it the names of the records (twisted.names.authority.PySourceAuthority).
zone = [
    SOA("example.org", mname="ns.example.org", rname="hostmaster.example.org", serial=1),
    A("www.example.org", "192.0.2.7"),
]
