"""Whether an installation is as it should be, found by trying: for doctor, and at the start."""
