"""The life of a process of services: how it starts, what signals do, how it is read anew, and how it ends."""
