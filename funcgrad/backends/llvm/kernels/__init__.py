"""Loop nests and small arrays as machine code."""
