"""From a variant of the hardened design to what starts an instance of it."""

from __future__ import annotations

import functools
from collections.abc import Callable

from coordinators.common.asgi import App
from coordinators.hardened import Hardened, create_app

CreateApp = Callable[..., App]
"""Takes what `coordinators.hardened.create_app` takes."""


def app(service: type[Hardened]) -> CreateApp:
    """A `create_app` for the variant."""
    return functools.partial(create_app, service=service)
