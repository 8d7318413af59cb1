"""What administrators do to accounts, who they are, and the links they hand on."""
