"""The ACE-Step engine: the only package that knows torch.

`weights`, `convert` and `loading` turn files into models, `stages` runs them, `masking` keeps neighbours apart,
`planner` writes codes, `tiny` makes a random checkpoint, and `engine` puts them behind the Engine protocol.
"""

import warnings

# diffusers builds its VAE with the older of torch's two weight norms; whoever runs a worker cannot mend that.
warnings.filterwarnings("ignore", message=r".*torch\.nn\.utils\.weight_norm", category=FutureWarning)
