"""First floor: what was known at each impression, and what happened next."""

import os
import sys

# Polars fetches eight row groups or more ahead of who asks, which to a small machine is much of a day. What
# is read here lies on a disk, so a row group for each of its threads will do. It looks when a scan begins.
os.environ.setdefault(
    "POLARS_ROW_GROUP_PREFETCH_SIZE", os.environ.get("POLARS_MAX_THREADS") or str(os.cpu_count() or 1)
)

# What its threads freed, the allocator of Polars holds for 1.5 seconds, in which another stage may begin.
if sys.platform == "linux":
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:100,muzzy_decay_ms:0")
