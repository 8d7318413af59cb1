"""The words of the AI SDK: its bodies, its UI message stream, and the files it sends."""
