"""Compile the kernels, which nobody must: ``make kernels``, or ``python -m models.native.build``.

Wants a C++ compiler (g++ 11 or clang 14, or newer), named in ``CXX`` if it is not ``c++``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from models.native.library import FLAGS, INSTRUCTIONS, SWITCH, built, kernels, pays, sources


def build(to: Path, flags: Sequence[str] = FLAGS) -> None:
    """Compile the kernels into this file; who looks for it meanwhile finds none or all of it.

    Args:
        to: the library.
        flags: what the compiler is told besides the sources.

    Raises:
        FileNotFoundError: there is no compiler.
        subprocess.CalledProcessError: it failed, and said why.
    """
    to.parent.mkdir(exist_ok=True)
    made = to.with_suffix(f".{os.getpid()}")
    try:
        subprocess.run([os.environ.get("CXX", "c++"), *flags, "-o", made, *sources()], check=True)
        made.replace(to)
    finally:
        made.unlink(missing_ok=True)


def main() -> None:
    """Build what is missing, remove what is old, and say what will be used."""
    if not pays():
        wanted = " and ".join(INSTRUCTIONS)
        sys.exit(f"This processor lacks {wanted}, or has AMX: the kernels would not be used.")
    to = built()
    if not to.exists():
        try:
            build(to)
        except FileNotFoundError as error:
            sys.exit(f"No C++ compiler ({error.filename}); install one, or name it in CXX.")
        except subprocess.CalledProcessError as error:
            sys.exit(f"The compiler failed ({error.returncode}); everything runs without the kernels, too.")
    for old in set(to.parent.glob("kernels-*.so")) - {to}:
        old.unlink()
    print(f"{to} is used from now on." if kernels() else f"{to} is built; {SWITCH}=off switches it off.")


if __name__ == "__main__":
    main()
