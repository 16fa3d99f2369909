"""Shared by all tests: this file puts ``tests/`` on the import path, so that ``shop_logs`` is found."""

from __future__ import annotations

import os

# the same tests everywhere: kernels that somebody built are met by `tests/models/native` alone
os.environ.setdefault("FUNNELCAST_KERNELS", "off")
# as in every process that trains or scores (`models.machine`): with a second thread sums end in other digits,
# and which tests share a process with those that ask for one thread changes with every new file
os.environ.setdefault("OMP_NUM_THREADS", "1")
