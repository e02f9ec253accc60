"""A memory-mapped subset in, a LoRA adapter out. Knows nothing of raw lines or generation."""
