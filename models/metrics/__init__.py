"""Ranking, calibration and gain as pure functions; undefined is ``None``, never a made-up number.

Each has a streaming form that equals it: ``Ranking`` (AUC, KS, ECE over bins of equal mass), ``GroupRanking``
(GAUC), ``Calibration`` (ECE over bins of equal width), ``LabelTotals`` and ``ValueTotals`` (the sums).
"""

from models.metrics.calibration import Calibration, ece
from models.metrics.conversion import ConversionAUC, conversion_auc
from models.metrics.evaluation import Metric, evaluate
from models.metrics.gains import HIGHER_IS_BETTER, LOWER_IS_BETTER, delta_m, mtl_gain
from models.metrics.grouped import GroupRanking, GroupTotals, gauc
from models.metrics.ranking import Ranking, auc, ks
from models.metrics.totals import LabelTotals, ValueTotals, log_loss, mae, normalized_entropy, pcoc, rmse

__all__ = [
    "HIGHER_IS_BETTER",
    "LOWER_IS_BETTER",
    "Calibration",
    "ConversionAUC",
    "GroupRanking",
    "GroupTotals",
    "LabelTotals",
    "Metric",
    "Ranking",
    "ValueTotals",
    "auc",
    "conversion_auc",
    "delta_m",
    "ece",
    "evaluate",
    "gauc",
    "ks",
    "log_loss",
    "mae",
    "mtl_gain",
    "normalized_entropy",
    "pcoc",
    "rmse",
]
