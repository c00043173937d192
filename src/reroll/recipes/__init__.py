"""`vae`, `gan`, `vaegan`: which parts are trained, with which losses, on which schedule."""
