"""What the whole daily job costs, stage by stage, as the day grows.

    python benchmarks/day.py --sizes 1000000 5000000 20000000

Simulated logs of the scenario ``shop`` go through all stages of a day, as ``funnelcast run`` has them where
nobody names lines: those of ``flows.day``, and all lines of the scenario. Before the measured day lie
``--earlier`` days of the same volume, built by the same stages. A day samples itself, and again up to three
days before it, whose labels are open. Every stage runs in a process of its own; ``daily_build.py``, which
measures the first four in the same way, says how.

The cost of an impression should not depend on how many there are, and no stage but training should take more
than a quarter of the whole.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from daily_build import STAGES, Figures, Place, history, table

from flows import recipes


def main() -> None:
    """Build, measure, print."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--sizes", type=int, nargs="+", default=[1_000_000], help="impressions a day")
    words.add_argument("--earlier", type=int, default=1, help="days of the same size before")
    words.add_argument("--lines", nargs="+", default=recipes.names("shop"), help="model lines")
    words.add_argument("--memory-limit", default="4GB", help="what DuckDB may use")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--folder", type=Path, help="where logs and warehouses lie meanwhile")
    told = words.parse_args()
    volumes: dict[int, Figures] = {}
    if told.folder is not None:
        told.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=told.folder) as scratch:
        for size in sorted(told.sizes):
            folder = Path(scratch) / str(size)
            place = Place(folder, told.memory_limit, told.seed, tuple(STAGES), tuple(told.lines))
            volumes[size] = dict(history(place, [told.earlier], size))[told.earlier]
            shutil.rmtree(folder)
    table("impressions", volumes, {size: size for size in volumes})
    for size, figures in volumes.items():
        whole = figures["all"]["cpu_s"]
        shares = (f"{stage} {figures[stage]['cpu_s'] / whole:.0%}" for stage in STAGES)
        print(f"{size:>12,}  of all CPU seconds: {', '.join(shares)}")


if __name__ == "__main__":
    main()
