"""Decode HigherHRNet's heatmaps and tags to people, and compute AP: functions of arrays, without files or torch."""
