"""The pages context."""
