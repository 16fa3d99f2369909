"""First floor: what was known at each impression, and what happened next."""
