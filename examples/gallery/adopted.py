"""Opens a socket itself, and has a service take it."""

import os
import socket

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 9999))
sock.set_inheritable(True)
listen = f"fd:{sock.fileno()}"
os.execlp("udpservices", "udpservices", "udpserve", "--protocol", "basic.Echo", "--listen", listen)
