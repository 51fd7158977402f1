"""anechoic: a chaos and contract test harness, with fake backends, for orchestration layers that run tool calls for an LLM."""
