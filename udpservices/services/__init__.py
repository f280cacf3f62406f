"""The services: one module a command."""
