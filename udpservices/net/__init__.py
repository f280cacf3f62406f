"""What the kernel knows and no port does: addresses, interfaces, sockets and their options, filters, names."""
