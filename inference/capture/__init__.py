"""Captured programs: an estimator run once becomes a graph that is compiled and run ever after."""
