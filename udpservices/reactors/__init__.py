"""Twisted's own reactors, whose UDP ports are ours: a module each, with `install()` as Twisted's modules have it.

``twistd --reactor=udpepoll COMMAND`` runs an application that knows nothing of this package.
"""
