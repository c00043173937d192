"""`vae`, `gan`, `vaegan`: which parts are trained, with which losses, on which schedule."""

from reroll.recipes.context import Recipe
from reroll.recipes.gan import Gan
from reroll.recipes.vae import Vae
from reroll.recipes.vaegan import VaeGan

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (Vae(), Gan(), VaeGan())}

__all__ = ["RECIPES", "Recipe"]
