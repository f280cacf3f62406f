"""The guard: which datagrams a port takes, decided in the kernel where it can be, and here where not."""
