"""The command `udpservices`, and the life of a process under it and under Twisted's runners."""
