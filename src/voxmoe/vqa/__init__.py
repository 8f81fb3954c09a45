"""Masks become findings, findings become questions and answers, and these become a dataset."""
