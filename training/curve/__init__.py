"""How many rows are enough: nested sizes, a law through their losses, what it foretells."""
