"""How much a user saw, clicked and bought lately."""

from features.view import View, Windows, count, rate

VIEW = View(
    name="user_activity",
    keys=("user_id",),
    source=Windows(rollup="user", days=(1, 7)),
    features=(
        count("user", "impression", 7),
        *(rate("user", "click", "impression", days, prior=0.1, strength=20) for days in (1, 7)),
        rate("user", "conversion", "click", 7, prior=0.1, strength=20),
    ),
    owner="simulated",
    description="Impressions of a user and the rates at which they lead to a click and a conversion.",
)
