"""Real data sets as named columns of tensors."""
