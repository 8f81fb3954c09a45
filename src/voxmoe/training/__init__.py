"""Recipes, the feature cache and the training run."""
