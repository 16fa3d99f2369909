"""How often videos of about this length were clicked and watched lately in the scene of the request."""

from features.view import View, Windows, count, rate

VIEW = View(
    name="duration_tab_popularity",
    keys=("duration_class", "tab"),
    source=Windows(rollup="duration_tab", days=(7,)),
    features=(
        count("duration_tab", "impression", 7),
        rate("duration_tab", "click", "impression", 7, prior=0.45, strength=20),
        rate("duration_tab", "long_view", "impression", 7, prior=0.31, strength=20),
    ),
    owner="ranking",
    description="Impressions of a class of lengths in one scene (tab) and their rates. Follows item_profile.",
)
