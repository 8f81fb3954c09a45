"""What the methods are called, in results, predictions and tables."""

MAJORITY, LABEL_MAJORITY = "majority class", "majority class of the label"
UNIFORM, PRIOR = "random, uniform", "random, training prior"
TEXT_ONLY = "text-only"
MEASURED = "segment, then measure"
FROM_TEXT = " (text)"
"""After the name of a method whose generated text is read instead of its heads."""
