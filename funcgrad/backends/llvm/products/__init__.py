"""Matrix products: tiles of our own, and the library."""
