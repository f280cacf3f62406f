"""A worker: started by its parent, which hands it a channel as its only word."""

import sys

from udpservices.runtime.workers.worker import run

if __name__ == "__main__":
    run(int(sys.argv[1]))
