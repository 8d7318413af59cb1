"""Benchmarks: one command each, `python -m benchmarks.NAME [--quick]`, or all with `make bench`.

Each starts the server it measures, on a core of its own, and prints as its last line one
JSON object of its figures. Ours and what it is compared with alternate in the same run.
"""
