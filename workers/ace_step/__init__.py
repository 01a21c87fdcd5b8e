"""The ACE-Step engine: the only package that knows torch.

`weights`, `convert` and `loading` turn files into models, which `assembly` puts together; `planner` writes codes,
`walk` goes from noise to latents and `decode` from latents to audio, `stages` runs all of it, and `engine` stands
before it with the Engine protocol. `tiny` makes a random checkpoint.
"""

import warnings

# diffusers builds its VAE with the older of torch's two weight norms; whoever runs a worker cannot mend that.
warnings.filterwarnings("ignore", message=r".*torch\.nn\.utils\.weight_norm", category=FutureWarning)
