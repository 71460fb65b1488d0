"""How fast the library is, and how near to the machine's limits."""
