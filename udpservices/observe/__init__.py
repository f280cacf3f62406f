"""What can be seen of a process of services: metrics, health and the status page."""
