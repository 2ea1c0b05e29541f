"""Readable SVI scripts, one for each system: model + guide + data + estimator + defaults."""
