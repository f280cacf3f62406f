"""The HTTP server that shows a process: metrics, health and the status page."""
