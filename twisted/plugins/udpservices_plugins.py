"""The commands that twistd and twist find: one line each, looked up by name when it is run."""

from udpservices import DatagramServiceMaker

udpecho = DatagramServiceMaker("udpecho", "udpservices.services.echo.Echo", "Echo UDP datagrams (RFC 862).")
udpserve = DatagramServiceMaker("udpserve", "udpservices.services.serve.Serve", "Serve any DatagramProtocol by name.")
