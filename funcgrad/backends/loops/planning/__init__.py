"""From clusters to a plan: steps as data."""
