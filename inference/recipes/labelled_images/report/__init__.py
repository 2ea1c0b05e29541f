"""What a model of labelled images is worth, and pictures of what it learned."""
