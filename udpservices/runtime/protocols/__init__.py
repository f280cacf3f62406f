"""From a protocol's name to its instances: what is there, what it may have, and where a mistake stands."""
