"""Shared by all tests: this file puts ``tests/`` on the import path, so that ``shop_logs`` is found."""

from __future__ import annotations
