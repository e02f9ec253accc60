"""Commands from frozen dataclasses: flags, recipes, extras, faults, interrupts."""
