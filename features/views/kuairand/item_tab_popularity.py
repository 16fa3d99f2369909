"""How often an item was shown, clicked and watched lately in the scene of the request."""

from features.view import View, Windows, count, rate

VIEW = View(
    name="item_tab_popularity",
    keys=("item_id", "tab"),
    source=Windows(rollup="item_tab", days=(7,)),
    features=(
        count("item_tab", "impression", 7),
        rate("item_tab", "click", "impression", 7, prior=0.45, strength=10),
        rate("item_tab", "long_view", "impression", 7, prior=0.31, strength=10),
    ),
    owner="ranking",
    description="Impressions of an item in one scene (tab) and their rates of clicks and long views.",
)
