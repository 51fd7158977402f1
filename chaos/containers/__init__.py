"""The wire in containers: each fake, each replica and each instance is one, and the harness is tied to them."""
