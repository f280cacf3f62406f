"""Manual pages, and completion for shells, of the declarations that ``--help`` shows.

``python -m udpservices.man FOLDER`` writes them all, for packagers.
"""
