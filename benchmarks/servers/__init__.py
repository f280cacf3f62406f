"""Echo servers, each a process: ``python -m benchmarks.servers.NAME HOST PORT`` prints the port number that it got."""
