"""From a plan to a trained program: the loop, and all that it keeps."""
