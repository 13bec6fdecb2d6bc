"""The provenance context."""
