"""A plan as a program: its code, how it is called, what it is kept as."""
