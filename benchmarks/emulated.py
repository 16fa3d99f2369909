"""Memory of a measurement with the compiled kernels, on a processor that lacks their instructions.

    python benchmarks/emulated.py throughput.py --one --sides ours --models esmm --batches 4096 --test-rows 0

Runs one measurement of another script of this folder with products in bfloat16 and kernels in which every
instruction is written out, as the tests of the kernels have them. Memory is nearly that of the processor that
has the instructions (497 MiB where it took 499 to 503); what is said of time means nothing, and it takes 30
times as long. The set that it reads must be there: whoever runs the other script by itself writes it.
"""

from __future__ import annotations

import ctypes
import runpy
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from models import machine
from models.native import library
from models.native.build import build

HERE = Path(__file__).parent
INSTRUCTIONS = HERE.parent / "tests/models/native/emulated"
FLAGS = (
    *("-O2", "-std=c++17", "-shared", "-fPIC", "-Wno-psabi"),
    *("-mavx2", "-mfma", f"-I{INSTRUCTIONS}"),
)


def main() -> None:
    """Compile, and run what is named."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with TemporaryDirectory() as folder:
        build(to := Path(folder) / "kernels.so", FLAGS)
        kernels = ctypes.CDLL(str(to))
    library.kernels = lambda: kernels  # type: ignore[assignment]
    machine._multiplies_bfloat16 = lambda device: device.type == "cpu"
    sys.argv = [str(HERE / sys.argv[1]), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
