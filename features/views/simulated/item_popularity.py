"""How often an item was shown, clicked and bought lately."""

from features.view import View, Windows, count, rate

VIEW = View(
    name="item_popularity",
    keys=("item_id",),
    source=Windows(rollup="item", days=(1, 7)),
    features=(
        count("item", "impression", 7),
        *(rate("item", "click", "impression", days, prior=0.1, strength=20) for days in (1, 7)),
        rate("item", "conversion", "click", 7, prior=0.1, strength=20),
    ),
    owner="simulated",
    description="Impressions of an item and the rates at which they lead to a click and a conversion.",
)
