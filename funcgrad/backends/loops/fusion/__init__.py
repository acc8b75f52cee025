"""From a graph to clusters that are computed together, and from these to loop nests."""
