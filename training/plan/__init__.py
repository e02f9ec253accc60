"""``training plan``: measure what fits this machine and is fastest."""
