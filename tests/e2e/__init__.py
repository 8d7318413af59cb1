"""The installed package and command line: real processes."""
