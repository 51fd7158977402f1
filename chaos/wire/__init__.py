"""The wire world: real processes, real sockets, Toxiproxy between them. Any language. This is the truth."""
