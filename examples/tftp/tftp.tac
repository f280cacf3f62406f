"""``TFTP_PORT=6969 twistd -ny tftp.tac``: serves the current folder."""

import os

from tftp import TFTP
from twisted.application.internet import UDPServer
from twisted.application.service import Application

application = Application("tftp")
UDPServer(int(os.environ.get("TFTP_PORT", "69")), TFTP(), interface="127.0.0.1").setServiceParent(application)
