"""Toxiproxy, both ways: an embedded server with the same admin API, and a client for it and for the real one.

`embedded.EmbeddedToxiproxy` is the server inside a running loop, `standalone.run` serves it alone, `client.Toxiproxy` drives
either. Nothing is imported here, so that a server does not pay for the client's imports, nor the other way round.
"""
