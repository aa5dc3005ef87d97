"""Heatmaps and tags of HigherHRNet to people: pure functions of numpy arrays, no files, no torch."""
