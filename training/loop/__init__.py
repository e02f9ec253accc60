"""The training loop: Trainer, its arguments and callbacks, checkpoints, metrics, curve."""
