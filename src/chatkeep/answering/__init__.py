"""Answering: from a question to a stored answer that any number of readers follow."""
