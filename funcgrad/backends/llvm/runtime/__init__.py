"""Where machine code is made, kept, loaded and run."""
