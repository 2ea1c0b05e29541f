"""What a training keeps of its steps: their numbers, and the parameters that they led to."""
