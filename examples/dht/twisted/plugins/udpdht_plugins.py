"""The command that twistd and twist find."""

from udpservices import DatagramServiceMaker

udpdht = DatagramServiceMaker("udpdht", "udpdht.Node", "Be a node of BitTorrent's DHT (BEP 5).")
