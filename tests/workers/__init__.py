"""Several processes that serve the same ports: real ones, which are killed, stopped and told to end."""
