"""What data sets and schemes share: where randomness comes from, and the two moves that both make, crop and flip."""
