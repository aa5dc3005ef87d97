"""Decode HigherHRNet's heatmaps and tags to people: pure functions of numpy arrays, without files or torch."""
