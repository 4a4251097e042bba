"""The teacher: loading it, measuring it, and the teacher-only probe (T. stddev without training)."""
