"""The commands and reactors that twistd and twist find: one line each, looked up by name when it is run."""

from twisted.application.reactors import Reactor

from udpservices import DatagramServiceMaker

udpbroadcast = DatagramServiceMaker("udpbroadcast", "udpservices.services.broadcast.Broadcast", "Send beacons and report others'.")
udpdiscard = DatagramServiceMaker("udpdiscard", "udpservices.services.discard.Discard", "Discard and count UDP datagrams (RFC 863).")
udpecho = DatagramServiceMaker("udpecho", "udpservices.services.echo.Echo", "Echo UDP datagrams (RFC 862).")
udphello = DatagramServiceMaker("udphello", "udpservices.services.hello.Helloer", "Greet a peer over connected UDP.")
udplength = DatagramServiceMaker("udplength", "udpservices.services.length.Length", "Tell how long each UDP datagram is.")
udpmulticast = DatagramServiceMaker("udpmulticast", "udpservices.services.multicast.MulticastPingPong", "Join groups and answer pings.")
udpserve = DatagramServiceMaker("udpserve", "udpservices.services.serve.Serve", "Serve any DatagramProtocol by name.")
udpservices = DatagramServiceMaker("udpservices", "udpservices.services.bundle.Bundle", "Run many services from a file.")
udptime = DatagramServiceMaker("udptime", "udpservices.services.timeservice.Time", "Tell the time over UDP (RFC 868).")

udpasyncio = Reactor("udpasyncio", "udpservices.reactors.asyncio", "asyncio based reactor with udpservices' UDP ports.")
udpepoll = Reactor("udpepoll", "udpservices.reactors.epoll", "epoll(7) based reactor with udpservices' UDP ports.")
udppoll = Reactor("udppoll", "udpservices.reactors.poll", "poll(2) based reactor with udpservices' UDP ports.")
udpselect = Reactor("udpselect", "udpservices.reactors.select", "select(2) based reactor with udpservices' UDP ports.")
udpuvloop = Reactor("udpuvloop", "udpservices.reactors.uvloop.Chosen", "uvloop based reactor with udpservices' UDP ports; needs uvloop.")
