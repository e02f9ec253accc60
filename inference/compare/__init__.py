"""The command compare: reports side by side."""
