"""The OpenAI API as its clients know it: what they send, what they read, and its errors."""
