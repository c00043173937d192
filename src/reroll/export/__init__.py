"""Frames out: video and picture files."""
