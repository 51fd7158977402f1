"""How fast: Locust users that bring turns to a coordinator in open loop, and the measurement of what comes of it."""
