"""Meshes: from what a model returns to the file that is delivered. Arrays and bytes, nothing of jobs or HTTP."""
