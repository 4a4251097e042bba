"""``kdstats evaluate-da``: its options, its progress, and what it prints and writes."""
