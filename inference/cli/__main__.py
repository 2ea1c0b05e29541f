"""``python -m inference.cli``, where ``lowerbound`` is not installed."""

import os
import sys
from pathlib import Path

if sys.path[:1] == [os.getcwd()] and Path(__file__).parents[2] != Path.cwd():
    del sys.path[0]  # the user's files there, a recipe torch.py for one, replace no module

from inference.cli.main import main

main()
