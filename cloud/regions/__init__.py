"""The regions context."""
