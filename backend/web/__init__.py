"""The HTTP face: parses, enqueues, waits, answers; holds no model."""
