"""The alarms context."""
