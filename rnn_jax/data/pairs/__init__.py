"""Pairs of texts, as translators read them: sources give texts and what they become."""
