"""First floor: what was known at each impression, and what happened next."""

import os

# Polars fetches eight row groups or more ahead of who asks, which to a small machine is much of a day. What
# is read here lies on a disk, so a row group for each of its threads will do. It looks when a scan begins.
os.environ.setdefault(
    "POLARS_ROW_GROUP_PREFETCH_SIZE", os.environ.get("POLARS_MAX_THREADS") or str(os.cpu_count() or 1)
)
