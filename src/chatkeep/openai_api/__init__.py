"""What only clients of the OpenAI API keep here: responses, and notes beside conversations.

Everything that other clients see too is a conversation, a message or a run like any other.
The words of that API itself are in `web/openai`.
"""
