"""Tables of ``entire_space.py``: means and deviations over worlds, and whether the aims are met.

Shapes: W worlds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import t as student

#: By row, the figures of every world.
Found = Mapping[str, Sequence[Mapping[str, float]]]

_COLUMNS = {
    "clicks": ("AUC pCVR, clicked", 2),
    "all": ("AUC pCVR, all", 2),
    "joint": ("AUC pCTCVR", 2),
    "loss": ("log loss above truth, 1e-3", 2),
    "calibration": ("calibration", 3),
}
#: The order of the paper, and that the doubly robust row is not below ESMM.
_ORDER = (
    ("ESMM-NS", "BASE"),
    ("ESMM", "ESMM-NS"),
    ("ESMM", "BASE"),
    ("ESCM2-DR", "ESMM"),
    ("Multi-DR", "ESMM"),
)
_CALIBRATED, _BAND = ("Multi-IPW", "ESCM2-IPS"), (0.95, 1.05)


def values(found: Found, name: str, figure: str) -> np.ndarray:
    """A figure of a row in every world, shape (W,)."""
    return np.array([world[figure] for world in found[name]])


def shown(found: Found) -> Iterator[str]:
    """Lines of the table."""
    yield f"| row | {' | '.join(said for said, _ in _COLUMNS.values())} |"
    yield f"|{' --- |' * (len(_COLUMNS) + 1)}"
    for name in found:
        cells = []
        for figure, (_, decimals) in _COLUMNS.items():
            value_W = values(found, name, figure)
            spread = f" ± {value_W.std(ddof=1):.{decimals}f}" if len(value_W) > 1 else ""
            cells.append(f"{value_W.mean():.{decimals}f}{spread}")
        yield f"| {name} | {' | '.join(cells)} |"


def aims(found: Found) -> Iterator[str]:
    """Paired differences of AUC, and calibrations beside their band."""
    for above, below in _ORDER:
        if above in found and below in found:
            said = []
            for figure in ("all", "clicks", "joint"):
                difference_W = values(found, above, figure) - values(found, below, figure)
                said.append(f"{_COLUMNS[figure][0]} {interval(difference_W)}")
            yield f"{above} less {below}: {'; '.join(said)}"
    for name in _CALIBRATED:
        if name in found:
            mean = values(found, name, "calibration").mean()
            verdict = "within" if _BAND[0] <= mean <= _BAND[1] else "outside"
            yield f"calibration of {name}: {mean:.3f}, {verdict} {_BAND[0]}-{_BAND[1]}"


def interval(difference_W: np.ndarray) -> str:
    """Mean and half the width of its 95 % interval."""
    mean, worlds = float(difference_W.mean()), len(difference_W)
    if worlds < 2:
        return f"{mean:+.2f}"
    reach = student.ppf(0.975, worlds - 1) * difference_W.std(ddof=1) / worlds**0.5
    return f"{mean:+.2f} ± {reach:.2f}"
