"""Loop nests: what kernels are made of, and what is known of memory."""
