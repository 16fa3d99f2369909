"""Compile the kernels, which nobody must: ``make kernels``, or ``python -m models.native.build``.

Wants a C++ compiler (g++ 11 or clang 14, or newer), named in ``CXX`` if it is not ``c++``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from models.native.library import KINDS, NARROW, SWITCH, Kind


def build(to: Path, flags: Sequence[str] | None = None, kind: Kind = NARROW) -> None:
    """Compile kernels into this file; who looks for it meanwhile finds none or all of it.

    Args:
        to: the library.
        flags: what the compiler is told besides the sources; those of the kind if absent.
        kind: which kernels.

    Raises:
        FileNotFoundError: there is no compiler.
        subprocess.CalledProcessError: it failed, and said why.
    """
    to.parent.mkdir(exist_ok=True)
    made = to.with_suffix(f".{os.getpid()}")
    try:
        subprocess.run(
            [os.environ.get("CXX", "c++"), *(flags or kind.flags), "-o", made, *kind.sources()], check=True
        )
        made.replace(to)
    finally:
        made.unlink(missing_ok=True)


def main() -> None:
    """Build what is missing, remove what is old, and say what will be used."""
    paying = [kind for kind in KINDS if kind.pays()]
    if not paying:
        wanted = ", or ".join(f"{' and '.join(one.instructions)} without {one.unless}" for one in KINDS)
        sys.exit(f"The kernels would not be used by this processor; they want {wanted}.")
    for kind in paying:
        _keep_built(kind)


def _keep_built(kind: Kind) -> None:
    to = kind.built()
    if not to.exists():
        try:
            build(to, kind=kind)
        except FileNotFoundError as error:
            sys.exit(f"No C++ compiler ({error.filename}); install one, or name it in CXX.")
        except subprocess.CalledProcessError as error:
            sys.exit(f"The compiler failed ({error.returncode}); everything runs without the kernels, too.")
    for old in set(to.parent.glob(f"{kind.name}-*.so")) - {to}:
        old.unlink()
    print(f"{to} is used from now on." if kind.load() else f"{to} is built; {SWITCH}=off switches it off.")


if __name__ == "__main__":
    main()
