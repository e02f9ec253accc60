"""The first that the process imports which ``generate``'s workers are forked from.

transformers imports what is here called missing where it is installed, for losses, images and a ROC
curve that no worker asks for: with pandas behind it, a quarter of what there is to import.
"""

import importlib.metadata
import sys

for _name in ("bitsandbytes", "scipy", "sklearn", "torchvision"):
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]  # as if it were not
# Reads the file lists of all that is installed, for 0.3 to 0.6 s. By it transformers finds versions
# of packages that are imported by another name than theirs; torch and accelerate are not.
importlib.metadata.packages_distributions = dict
