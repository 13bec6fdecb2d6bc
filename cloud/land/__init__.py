"""The land context."""
