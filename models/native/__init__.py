"""Kernels in C++ for what takes most of a step: an extra that `models.native.build` compiles."""
