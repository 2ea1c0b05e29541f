"""Checks before training: arguments, the data's plate, and that the guide fits the model."""
