"""Schemes made of schemes: one after the other, sometimes, or picked from."""
