"""What a model's lists are worth: questions, answers by its own graphs, metrics."""
