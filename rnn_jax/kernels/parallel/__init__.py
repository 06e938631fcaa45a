"""Kernels that compute all steps of a linear cell at once."""
