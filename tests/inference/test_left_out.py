"""What the commands, and the process that generate's workers are forked from, leave out."""

import json

from tests.builders import run_python

LEFT_OUT = ("bitsandbytes", "scipy", "sklearn", "torchvision")
LOOK = f"""
import inference.left_out
import importlib.util, json, sys
import peft, transformers
from transformers.models.llama import modeling_llama
from transformers.utils import is_accelerate_available, is_torch_available
print(json.dumps({{
    "imported": [name for name in {LEFT_OUT} if sys.modules[name]],
    "found": [name for name in {LEFT_OUT} if importlib.util.find_spec(name)],
    "available": [is_accelerate_available(), is_torch_available()],
}}))
"""


def test_libraries_that_writing_does_not_need_are_taken_for_missing() -> None:
    done = run_python("-c", LOOK)

    assert json.loads(done.stdout) == {"imported": [], "found": [], "available": [True, True]}
    assert done.stderr == ""
