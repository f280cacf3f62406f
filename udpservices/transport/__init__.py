"""The kernel boundary: the only place that knows about errno, socket options and ctypes."""
