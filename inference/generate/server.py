"""The first that the process imports which ``generate``'s workers are forked from.

transformers' assisted decoding, which nothing here asks for, takes a ROC curve from scikit-learn
where that is installed: with pandas and SciPy behind it, a quarter of what there is to import.
"""

import sys

sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]  # as if it were not
