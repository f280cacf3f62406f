"""The command that twistd and twist find."""

from udpservices import DatagramServiceMaker

udpshout = DatagramServiceMaker("udpshout", "udpshout.Shout", "Answer UDP datagrams in capitals.")
