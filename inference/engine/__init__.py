"""Prompts in, texts out: weights, decoders, samplers, likelihoods. The commands' only door."""

from inference.engine.batch import choose, load
from inference.engine.likelihood import score
from inference.engine.requests import (
    AS_SET,
    Completion,
    Engine,
    Request,
    Settings,
    Wish,
    choose_device,
    heard_by,
)  # fmt: skip
from inference.engine.sampler import NOISE
from inference.engine.slots.compilation import caches
from inference.engine.stream import Answerer, BusyError, answerer
from inference.engine.weights import free_memory, visible_gpus

__all__ = [
    "AS_SET", "NOISE", "Answerer", "BusyError", "Completion", "Engine", "Request", "Settings",
    "Wish", "answerer", "caches", "choose", "choose_device", "free_memory", "heard_by", "load",
    "score", "visible_gpus",
]  # fmt: skip
