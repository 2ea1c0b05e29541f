"""What an audit is made of: moments of gradients, verdicts on them, and the report."""
