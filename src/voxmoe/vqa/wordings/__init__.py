"""The words of questions and answers: numbered templates from an offline grammar, or as a language model wrote them."""
