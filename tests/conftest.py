"""Shared by all tests: this file puts ``tests/`` on the import path, so that ``shop_logs`` is found."""

from __future__ import annotations

import os

# the same tests everywhere: kernels that somebody built are met by `tests/models/native` alone
os.environ.setdefault("FUNNELCAST_KERNELS", "off")
