"""What is checked before training: the plate over the data, and that the guide fits the model."""
