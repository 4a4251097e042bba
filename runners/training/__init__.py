"""The pieces of a student's training, which :mod:`runners.loop` puts together."""
