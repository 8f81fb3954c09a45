"""Encoders, experts, heads and language models, and the models that are assembled from them. Reads no scans."""
