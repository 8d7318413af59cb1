"""HTTP: the only place that knows FastAPI. Parse, call one concept, shape the answer."""
