"""How much a user saw, clicked, watched and liked lately."""

from features.view import View, Windows, count, rate

DAYS = (1, 3, 7)

VIEW = View(
    name="user_activity",
    keys=("user_id",),
    source=Windows(rollup="user", days=DAYS),
    features=(
        *(count("user", "impression", days) for days in DAYS),
        *(rate("user", "click", "impression", days, prior=0.45, strength=5) for days in DAYS),
        *(rate("user", "long_view", "impression", days, prior=0.31, strength=5) for days in DAYS),
        rate("user", "like", "impression", 7, prior=0.018, strength=20),
    ),
    owner="ranking",
    description="Impressions of a user and the rates at which they lead to a click, a long view, a like.",
)
