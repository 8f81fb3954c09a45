"""The paper's tables again: which models each needs, how they are made, and how the outcome compares."""
