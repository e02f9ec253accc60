"""An adapter and titles in, descriptions out. Knows nothing of how the adapter was trained."""
