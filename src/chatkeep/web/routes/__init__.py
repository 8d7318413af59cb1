"""Routes, one file for each surface."""
