"""Routes, problems, streams: on a real PostgreSQL, with a fake model."""
