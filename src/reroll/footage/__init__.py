"""Footage in: find files, decode them safely, find shots, keep uint8 frames, draw windows of them."""
