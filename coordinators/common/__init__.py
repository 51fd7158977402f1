"""What the reference coordinators share: settings, HTTP clients, the stores, the ASGI app and the process."""
