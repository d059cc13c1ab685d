"""What the result cache stands on: who leaves, computations under way, sizes."""
