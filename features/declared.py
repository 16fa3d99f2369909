"""What follows from declarations alone is made once for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Of each function; a scenario has some dozens of tables.
_MADE = 1024


@dataclass(frozen=True, eq=False)
class _Same:
    """A declaration that equals itself alone: what it holds need not be hashable, nor be compared."""

    declared: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.declared is self.declared

    def __hash__(self) -> int:
        return id(self.declared)


def once_each(make: Callable[P, T]) -> Callable[P, T]:
    """``make``, called once for every declaration, or combination of them, that it is given by place.

    Plans ask for the same tables many times over. A declaration is frozen and so is what is made of it; one
    that was changed by ``dataclasses.replace`` is another object, for which everything is made anew. Texts
    among the declarations are told apart by what they say.
    """

    @lru_cache(maxsize=_MADE)
    def made(*declared: _Same | str) -> T:
        own = (one.declared if isinstance(one, _Same) else one for one in declared)
        return make(*own)  # type: ignore[arg-type, call-arg]

    @wraps(make)
    def found(*args: P.args, **named: P.kwargs) -> T:
        if named:
            return make(*args, **named)
        return made(*(one if isinstance(one, str) else _Same(one) for one in args))

    return found
