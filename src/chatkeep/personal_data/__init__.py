"""Everything that a person has here, to be taken away or erased."""
