"""A base with an adapter on it: loaded, checked, its activations kept or recomputed."""
