"""How often an author's items were shown, clicked and liked lately."""

from features.view import View, Windows, count, rate

VIEW = View(
    name="author_popularity",
    keys=("author_id",),
    source=Windows(rollup="author", days=(7,)),
    features=(
        count("author", "impression", 7),
        rate("author", "click", "impression", 7, prior=0.45, strength=20),
        rate("author", "long_view", "impression", 7, prior=0.31, strength=20),
        rate("author", "like", "impression", 7, prior=0.018, strength=50),
    ),
    owner="ranking",
    description="Impressions of an author's items and their rates. Joined after the item's attributes.",
)
