"""The pieces of a student's training, which :mod:`runners.training.loop` puts together."""
