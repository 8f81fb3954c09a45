"""VoxMoE: language models that read 3D medical images through experts chosen by the question."""

__version__ = "0.1.0"
