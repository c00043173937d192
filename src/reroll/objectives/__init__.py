"""The losses, each beside its equation: variational, flow matching, adversarial, energy distance."""
