"""Files of users: what they are, and their bytes."""
