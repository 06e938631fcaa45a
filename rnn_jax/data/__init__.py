"""From stories to batches: sources, vectorizer, buckets. All of it is NumPy, on the host."""
