"""Twisted's contract for a UDP port, over engines."""
