"""ChatKit's server protocol over our conversations.

A thread is a conversation, and its items are that conversation's messages: a chat begun in
`useChat` goes on here and the reverse. OpenAI's `openai-chatkit` reads the requests and
writes the events; `opening` loads it with the first of them, and no other module of ours
imports this package's modules, so that whoever uses no ChatKit does not pay for it.
"""
