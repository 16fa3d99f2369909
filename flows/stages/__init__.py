"""The stages of a day: plain functions of (house, day, lines), each a no-op where its work is done."""
