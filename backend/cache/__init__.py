"""What the result cache stands on: eviction policies, computations under way, sizes."""
