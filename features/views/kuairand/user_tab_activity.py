"""How much a user saw, clicked and watched lately in the scene of the request."""

from features.view import View, Windows, count, rate

VIEW = View(
    name="user_tab_activity",
    keys=("user_id", "tab"),
    source=Windows(rollup="user_tab", days=(7,)),
    features=(
        count("user_tab", "impression", 7),
        rate("user_tab", "click", "impression", 7, prior=0.45, strength=5),
        rate("user_tab", "long_view", "impression", 7, prior=0.31, strength=5),
    ),
    owner="ranking",
    description="Impressions of a user in one scene (tab) and their rates of clicks and long views.",
)
