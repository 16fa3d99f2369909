"""What the catalogue shows of a scenario."""

from __future__ import annotations

from features.bookkeeping import CALIBRATION, CALIBRATORS, METRICS, MODELS, QUARANTINE, RUNS
from features.promotion import GATE, PROMOTIONS
from features.scenario import Scenario
from features.schemas import COMPLETENESS, samples, scores
from features.schemas import view as view_table
from features.validation.bands import QUALITY
from features.validation.drift import DRIFT
from features.validation.foretold import FORETOLD
from flows.catalog import CatalogView

_LATEST = "SELECT * FROM this WHERE dt = (SELECT max(dt) FROM this)"


def catalog_views(scenario: Scenario) -> list[CatalogView]:
    """The views of ``catalog.duckdb``, those of the feature store last."""
    return [
        CatalogView("scores", scores(scenario)),
        CatalogView(
            "scores_latest",
            scores(scenario),
            _LATEST,
            "The scores of the newest published day, one row per pair and line.",
        ),
        CatalogView("samples", samples(scenario)),
        CatalogView("metrics_daily", METRICS),
        CatalogView("calibration_daily", CALIBRATION),
        CatalogView("calibrators", CALIBRATORS),
        CatalogView("drift_daily", DRIFT),
        CatalogView("quality_daily", QUALITY),
        CatalogView("completeness", COMPLETENESS),
        CatalogView("completeness_daily", FORETOLD),
        CatalogView("runs", RUNS),
        CatalogView("models", MODELS),
        CatalogView("gate", GATE),
        CatalogView("promotions", PROMOTIONS),
        CatalogView("quarantine", QUARANTINE),
        *(CatalogView(f"features_{view.name}", view_table(view, scenario)) for view in scenario.views),
    ]
