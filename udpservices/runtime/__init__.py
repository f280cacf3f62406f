"""What runs: services on sockets, the TCP beside them, members of groups, clients, and the process itself."""
