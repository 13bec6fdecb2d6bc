"""The telemetry context."""
