"""What a model can be asked: gates, importance, gradients over time."""
