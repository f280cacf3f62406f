"""What a process is seen to do: `source.py` gathers it from services, and `service.py` shows it over HTTP."""
