"""Time series: sources, a clock, what is known ahead, and windows of them. All of it is NumPy, on
the host."""
