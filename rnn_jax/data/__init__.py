"""From stories to batches: sources, vectorizer, buckets. NumPy and the standard library only."""
