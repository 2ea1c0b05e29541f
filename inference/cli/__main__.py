"""``python -m inference.cli``, where ``lowerbound`` is not installed."""

from inference.cli.main import main

main()
