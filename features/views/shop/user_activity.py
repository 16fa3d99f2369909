"""How much a user saw, clicked and bought lately."""

from features.view import View, Windows, count, rate

VIEW = View(
    name="user_activity",
    keys=("user_id",),
    source=Windows(rollup="user", days=(1, 3)),
    features=(
        count("user", "impression", 3),
        *(rate("user", "click", "impression", days, prior=0.25, strength=5) for days in (1, 3)),
        rate("user", "conversion", "click", 3, prior=0.2, strength=5),
    ),
    owner="shop",
    description="Impressions of a user and the rates at which they lead to a click and a purchase.",
)
