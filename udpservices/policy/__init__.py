"""What stands between a port and its protocol, each a callable on a batch; none by default."""
