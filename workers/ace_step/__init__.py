"""The ACE-Step engine: the only package that imports torch.

`weights` turns files into models, and `assembly` puts these together on the `device`. `planner` writes codes, `tasks`
prepares the inputs of each take's diffusion, and `diffusion` turns noise into latents and latents into audio. `engine`
offers all of this through the Engine protocol. `tiny` makes a random checkpoint.
"""

import warnings

from catalog.settings import Settings
from workers.engine.process import EngineRecipe

# diffusers builds its VAE with the older of torch's two weight norms; an operator cannot change that.
warnings.filterwarnings("ignore", message=r".*torch\.nn\.utils\.weight_norm", category=FutureWarning)


def engine_recipe(settings: Settings, model: str, *, planner_wanted: bool, trial: bool) -> EngineRecipe:
    """The recipe of an ACE-Step engine, with the settings that concern it; this function does not import torch."""
    options = {
        "model": model,
        "weights": settings.weights,
        "planner_weights": settings.planner_weights,
        "weights_sha256": settings.weights_sha256,
        "planner_weights_sha256": settings.planner_weights_sha256,
        "device": settings.device,
        "vram_gib": settings.vram_gib,
        "home": settings.home,
        "planner_wanted": planner_wanted,
        "quantize": settings.quantize,
        "offload": settings.offload,
        "trial": trial,
        "compiled": settings.compile,
    }
    return EngineRecipe("workers.ace_step.assembly:load_engine", options)
