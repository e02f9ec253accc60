"""The search for the settings that learn best."""
