"""What compiled backends share: clusters of equations, their loop nests, and plans of memory."""
