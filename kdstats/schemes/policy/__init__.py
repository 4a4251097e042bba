"""Learnt or random operations on uint8 pixels."""
