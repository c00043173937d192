"""reroll: train a video generator on your own footage, and roll it again."""
