"""The fake Assistants API (OpenAI Assistants v2, 23 operations): a pure core, and its endpoint for both worlds."""
