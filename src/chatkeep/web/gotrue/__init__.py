"""The wire shapes of Supabase Auth: what its clients send, and what they read."""
