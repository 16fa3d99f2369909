"""How often a product was shown, clicked and bought lately."""

from features.view import View, Windows, count, rate

VIEW = View(
    name="item_popularity",
    keys=("item_id",),
    source=Windows(rollup="item", days=(1, 3)),
    features=(
        count("item", "impression", 3),
        *(rate("item", "click", "impression", days, prior=0.25, strength=5) for days in (1, 3)),
        rate("item", "conversion", "click", 3, prior=0.2, strength=5),
    ),
    owner="shop",
    description="Impressions of a product and the rates at which they lead to a click and a purchase.",
)
