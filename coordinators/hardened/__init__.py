"""The smallest change to the deployed design that holds: guard the dispatch, not only the submission.

One atomic claim per call in the shared store, written before the call is sent, under a key that survives regenerated
ids (run, step, position); a stable idempotency key; results stored before they are submitted; a step done only after
an accepted submit; leases with fencing for takeover; and where a gateway offers no way to know, a call in doubt that is
reported and never sent twice.
"""

from coordinators.hardened.service import Hardened, create_app

__all__ = ["Hardened", "create_app"]
