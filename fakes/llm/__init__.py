"""Fake LLM serving: replicas that are real processes, behind a router that retries in flight on another one."""
