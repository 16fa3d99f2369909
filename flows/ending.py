"""How a flow ends: Completed with one line, or Failed with the line of its error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Completed, Failed

from features.errors import FunnelcastError
from flows import logs

P = ParamSpec("P")
log = logging.getLogger("funnelcast.day")


def ending(body: Callable[P, str]) -> Callable[P, State[None]]:
    """Turn a body that returns its summary, or raises, into a flow function that returns its state.

    An exception that leaves a flow is pickled into Prefect's storage and its text kept in Prefect's
    database; returned as a state it is neither pickled nor shown with a password in it. The caller of
    the flow still gets the exception raised.

    Prefect reads the annotations of what is returned here in this module's names, so modules of flows
    must not turn theirs into text (no ``from __future__ import annotations``).
    """

    @wraps(body)
    def ended(*args: P.args, **kwargs: P.kwargs) -> State[None]:
        logs.ensure()
        try:
            return Completed(message=logs.redact(body(*args, **kwargs)))
        except Exception as error:
            # The command line reports the error itself; a worker has nobody who would.
            log.log(logging.ERROR if deployment.id else logging.DEBUG, "failed", exc_info=True)
            told = str(error) if isinstance(error, FunnelcastError) else f"{type(error).__name__}: {error}"
            return Failed(message=logs.redact(told), data=error)

    return ended
