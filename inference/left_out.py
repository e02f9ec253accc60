"""Libraries that writing needs nothing of, left out of this process as if they were not installed.

transformers imports SciPy, scikit-learn and torchvision where they are, for losses, a ROC curve and
images; peft imports bitsandbytes, for bases of 4 bits, which are refused. Together they can take as
long as all the rest. Imported before both, by programs alone.
"""

import importlib.metadata
import sys

for _name in ("bitsandbytes", "scipy", "sklearn", "torchvision"):
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]
# Reads the file lists of all that is installed, for 0.3 to 0.6 s. By it transformers finds versions
# of packages that are imported by another name than theirs; torch and accelerate are not.
importlib.metadata.packages_distributions = dict
