"""Multimodal, multi-scale, generative modelling of imaging-based spatial transcriptomics."""
