"""Echo servers, each a process, and the protocols that the commands serve.

``python -m benchmarks.servers.NAME HOST PORT BYTES`` says which port number it listens on; BYTES is the size of its
receive buffer, 0 for the kernel's default.
"""
