"""What `funnelcast maintain` prints: what went, or would go, by table and reason, with its bytes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.harmless import json_line
from flows.query import as_text, relative
from flows.verify_report import amount

if TYPE_CHECKING:
    from flows.house import House
    from flows.maintain import Maintained


def show(house: House, found: Maintained, dry_run: bool, as_json: bool) -> None:
    """One row per place and reason; every path with ``as_json``."""
    root = house.store.root
    total = sum(one.size for one in found.removed)
    if as_json:
        print(
            json_line(
                {
                    "warehouse": str(root),
                    "dry_run": dry_run,
                    "bytes": total,
                    "kept_bytes": found.kept_bytes,
                    "removed": [
                        {"path": str(one.path), "bytes": one.size, "why": one.why} for one in found.removed
                    ],
                    "joined": [{"day": str(day), "files": files} for day, files in found.joined],
                }
            )
        )
        return
    counts, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for one in found.removed:
        parts = one.path.relative_to(root).parts
        place = "/".join(part for part in parts[:-1] if "=" not in part) or parts[0]
        counts[place, one.why] += 1
        sizes[place, one.why] += one.size
    console = Console()
    if found.removed:
        table = Table("where", "what", "number", "size", box=box.SIMPLE)
        for (place, why), number in sorted(counts.items()):
            told = (Text(as_text(place)), Text(why), f"{number:,}", amount(sizes[place, why]))
            table.add_row(*told)
        console.print(table)
    for day, files in found.joined:
        console.print(f"runs of {day}: {files} files {'would be' if dry_run else 'were'} joined into one")
    verb = "would be removed" if dry_run else "removed"
    console.print(
        f"{relative(root)}: {len(found.removed):,} {verb}, {amount(total)}; "
        f"{amount(found.kept_bytes)} that are not live stay, as kept versions, pinned or young",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
