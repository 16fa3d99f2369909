"""From scores to rates: curves fitted to what versions predicted of days that they had not learned from.

``Bins`` are all that a day has to leave behind, and those of several days add up.
"""

from models.calibration.bins import Bins
from models.calibration.choice import METHODS, Calibration
from models.calibration.curve import Curve

__all__ = ["METHODS", "Bins", "Calibration", "Curve"]
