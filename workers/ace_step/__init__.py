"""The ACE-Step engine: the only package that knows torch.

`weights` turns files into models, which `assembly` puts together on the `device`; `planner` writes codes, `diffusion`
goes from noise to latents and on to audio, and `engine` stands before it with the Engine protocol. `tiny` makes a
random checkpoint.
"""

import warnings

# diffusers builds its VAE with the older of torch's two weight norms; whoever runs a worker cannot mend that.
warnings.filterwarnings("ignore", message=r".*torch\.nn\.utils\.weight_norm", category=FutureWarning)
