"""Commands on runs that there are, and on many runs: compare, posterior, sweep."""
