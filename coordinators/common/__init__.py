"""What the reference coordinators share: settings, HTTP clients, the SQLite database, the ASGI app and the process."""
