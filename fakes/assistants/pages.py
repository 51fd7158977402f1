"""Pages of lists, as every list operation of the Assistants API gives them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from fakes.assistants.errors import not_found, wrong_value

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class Listed(Protocol):
    """Anything that a list can hold."""

    @property
    def id(self) -> str:
        """Its id, which `after` and `before` name."""
        ...

    def json(self) -> dict[str, Any]:
        """The object as the API shows it."""
        ...


T = TypeVar("T", bound=Listed)


@dataclasses.dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """The chosen items, in the order asked for; `has_more` says that there are more in the direction of the paging."""

    items: list[T]
    has_more: bool

    def json(self) -> dict[str, Any]:
        """The list object."""
        return {
            "object": "list",
            "data": [item.json() for item in self.items],
            "first_id": self.items[0].id if self.items else None,
            "last_id": self.items[-1].id if self.items else None,
            "has_more": self.has_more,
        }


def page(items: Iterable[T], query: Mapping[str, str], what: str) -> Page[T]:
    """One page of `items`, which come oldest first; `what` is their name in error messages.

    `after` starts right behind an item. `before` alone gives the page that ends right before an item. Raises ApiError:
    400 for a limit that is no whole number from 1 to 100 or an order other than asc and desc, 404 for unknown ids.
    """
    limit = _limit(query.get("limit"))
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise wrong_value("order", "asc or desc", order)
    window = list(items)
    if order == "desc":
        window.reverse()
    after, before = query.get("after"), query.get("before")
    start = _position(window, after, what) + 1 if after else 0
    end = _position(window, before, what) if before else len(window)
    window = window[start:end]
    chosen = window[-limit:] if before and not after else window[:limit]
    return Page(chosen, len(chosen) < len(window))


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    if not 1 <= limit <= MAX_LIMIT:
        raise wrong_value("limit", f"a whole number from 1 to {MAX_LIMIT}", text)
    return limit


def _position(items: list[T], wanted: str, what: str) -> int:
    for position, item in enumerate(items):
        if item.id == wanted:
            return position
    raise not_found(what, wanted)
