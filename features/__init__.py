"""First floor: what was known at each impression, and what happened next."""

import os
import sys

# Polars fetches eight row groups or more ahead of who asks, which to a small machine is much of a day. What
# is read here lies on a disk, so a row group for each of its threads will do. It looks when a scan begins.
os.environ.setdefault(
    "POLARS_ROW_GROUP_PREFETCH_SIZE", os.environ.get("POLARS_MAX_THREADS") or str(os.cpu_count() or 1)
)

# What its threads freed, the allocator of Polars holds for 1.5 seconds, in which another stage may begin. A
# process inherits what Polars told its parent; the last word is the user's.
if sys.platform == "linux":
    _ours, _polars = ("dirty_decay_ms:100", "muzzy_decay_ms:0"), ("dirty_decay_ms:500", "muzzy_decay_ms:1000")
    _users = (told for told in os.environ.get("_RJEM_MALLOC_CONF", "").split(",") if told not in _polars)
    os.environ["_RJEM_MALLOC_CONF"] = ",".join(filter(None, dict.fromkeys((*_ours, *_users))))
