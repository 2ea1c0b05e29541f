"""What ``vsbc`` is made of: simulated data sets, ranks, a test of uniformity, the report."""
