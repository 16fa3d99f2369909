"""Tables of the Census-Income benchmark: means and deviations over seeds, published rows, distances to peers.

Shapes: S seeds, K = 2 objectives.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import mean

import numpy as np

#: Means of the MMoE paper's tables and values of the PLE paper's, on the official split with all attributes:
#: income or education, then never married.
PUBLISHED = {
    ("income", "marital"): {
        "Single-Task, MMoE paper": (0.9337, 0.9922),
        "Shared-Bottom, MMoE paper": (0.9295, 0.9921),
        "MMoE, MMoE paper": (0.9359, 0.9927),
        "Single-Task, PLE paper": (0.9445, 0.9923),
        "PLE, PLE paper": (0.9522, 0.9945),
    },
    ("education", "marital"): {
        "Single-Task, MMoE paper": (0.8792, 0.9922),
        "Shared-Bottom, MMoE paper": (0.8813, 0.9917),
        "MMoE, MMoE paper": (0.8826, 0.9924),
    },
}


def table(rows: list[dict[str, object]], pair: tuple[str, str]) -> None:
    """Means and deviations of one pair, and how ours stand to the best peer."""
    of: dict[tuple[str, str], list[dict[str, object]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: int(str(row["seed"]))):
        if row["pair"] == list(pair):
            of[str(row["side"]), str(row["network"])].append(row)
    print(
        f"\n| network | side | {pair[0]} | {pair[1]} | epoch | CPU s |\n| --- | --- | --- | --- | --- | --- |"
    )
    shown: dict[tuple[str, str], np.ndarray] = {}
    for (side, name), runs in of.items():
        test = np.array([row["test"] for row in runs])
        shown[side, name] = test
        cells = [f"{m:.4f} ± {s:.4f}" for m, s in zip(test.mean(0), deviation(test), strict=True)]
        epoch, cpu = (mean(float(str(row[c])) for row in runs) for c in ("epoch", "cpu_s"))
        print(f"| {name} | {side} | {' | '.join(cells)} | {epoch:.1f} | {cpu:.0f} |")
    for name, values in PUBLISHED[pair].items():
        print(f"| {name} | published, all attributes | {values[0]:.4f} | {values[1]:.4f} | | |")
    for (side, name), test in shown.items():
        if side == "ours":
            print(verdict(name, pair, test, shown))


def deviation(test_SK: np.ndarray) -> np.ndarray:
    """Standard deviation over seeds, 0 of one seed."""
    spread: np.ndarray = test_SK.std(0, ddof=1) if len(test_SK) > 1 else np.zeros(test_SK.shape[1])
    return spread


def verdict(
    name: str, pair: tuple[str, str], test_SK: np.ndarray, shown: dict[tuple[str, str], np.ndarray]
) -> str:
    """What it gains over single-task and over the best peer with the same network.

    To single-task, the mean of the differences seed by seed and its standard error; to the peer, the
    difference of the means and how much that is in the larger deviation of the two.
    """
    said = []
    for k, objective in enumerate(pair):
        rivals = [t for (side, other), t in shown.items() if side != "ours" and other == name]
        parts = []
        if name != "SingleTask":
            gain_S = test_SK[:, k] - shown["ours", "SingleTask"][:, k]
            error = deviation(gain_S[:, None])[0] / len(gain_S) ** 0.5
            parts.append(f"{gain_S.mean():+.5f} ± {error:.5f} to single-task")
        if rivals:
            best = max(rivals, key=lambda t: float(t[:, k].mean()))
            gap = test_SK[:, k].mean() - best[:, k].mean()
            unit = max(deviation(test_SK)[k], deviation(best)[k])
            parts.append(f"{gap:+.4f} to the best peer" + (f" ({gap / unit:+.1f} sd)" if unit else ""))
        if parts:
            said.append(f"{objective} {', '.join(parts)}")
    return f"{name}: {'; '.join(said) or 'no peer has it'}"
