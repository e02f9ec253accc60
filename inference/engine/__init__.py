"""Prompts in, texts out: weights, decoders, samplers, likelihoods. The commands' only door."""

from inference.engine.batch import choose, load
from inference.engine.likelihood import score
from inference.engine.progress import heard_by
from inference.engine.requests import Completion, Engine, Request, Settings
from inference.engine.sampler import NOISE
from inference.engine.stream import Answerer, BusyError, answerer, base_of
from inference.engine.weights import Model, choose_device, find_model, free_memory, visible_gpus

__all__ = [
    "NOISE", "Answerer", "BusyError", "Completion", "Engine", "Model", "Request", "Settings",
    "answerer", "base_of", "choose", "choose_device", "find_model", "free_memory", "heard_by",
    "load", "score", "visible_gpus",
]  # fmt: skip
