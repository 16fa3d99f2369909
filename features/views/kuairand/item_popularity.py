"""How often an item was shown, clicked, watched and liked lately."""

from features.view import View, Windows, count, rate

DAYS = (1, 3, 7)

VIEW = View(
    name="item_popularity",
    keys=("item_id",),
    source=Windows(rollup="item", days=DAYS),
    features=(
        *(count("item", "impression", days) for days in DAYS),
        *(rate("item", "click", "impression", days, prior=0.45, strength=10) for days in DAYS),
        *(rate("item", "long_view", "impression", days, prior=0.31, strength=10) for days in DAYS),
        rate("item", "long_view", "click", 7, prior=0.7, strength=10),
        rate("item", "like", "impression", 7, prior=0.018, strength=50),
    ),
    owner="ranking",
    description="Impressions of an item and the rates at which they lead to a click, a long view, a like.",
)
