"""How datagrams cross the boundary to the kernel: one contract, several implementations."""
