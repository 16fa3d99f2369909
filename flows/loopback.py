"""Prefect's API for one process: on loopback, on a port of its own, gone when its parent is gone.

``flows.embedded`` starts this file as a child. Prefect can start such a child itself; ours differs in
three ways that were measured: it cannot be orphaned (it ends when its standard input closes, which a
``kill -9`` of the parent also does), an interrupt on the terminal does not reach it before the flow has
written its last state, and the parent need not import the server (5 CPU-seconds).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Announce the port on standard output, then serve until standard input closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)

        import uvicorn
        from prefect.server.api.server import create_app

        app = create_app(ephemeral=True, final=True)
        uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run(sockets=[listener])


if __name__ == "__main__":
    main()
