"""A model as one GGUF file for llama.cpp, written tensor by tensor and read back.

Names and layout as llama.cpp's own converter has them: rotary halves interleaved, tied embeddings
once, norms in 32 bits.
"""

import logging
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.artefacts.weights import check_finite, check_vocabulary
from data.console import first_line
from data.errors import ModelError
from data.tokens import TextTokenizer
from training.export import modelfile, vocabulary
from training.export.config import ExportConfig
from training.export.merged import Merged, Written, check_apart, merging
from training.export.rotary import Rotary
from training.export.source import Source
from training.export.vocabulary import Vocabulary

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter

NAME = "model.gguf"
_TOOL = "llama-quantize"
# Largest relative distance of a tensor from the one in float32 (2-norm): half a step of its form.
# A block of 32 weights shares a scale in Q8_0, whose largest weight takes 127 steps; Q4_K's have
# some 15, between a smallest and a largest.
TOLERANCE = {"float32": 0.0, "float16": 2**-11, "bf16": 2**-8, "q8_0": 0.02, "q4_k_m": 0.25}
_TYPES = {"float32": "F32", "float16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
_FILE_TYPES = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "bf16": "MOSTLY_BF16",
               "q8_0": "MOSTLY_Q8_0"}  # fmt: skip
_AGAIN = "export again with --overwrite true"


@dataclass(frozen=True)
class Tokens:
    """Ids that begin, end and fill texts, as the run has them."""

    begin: int | None
    end: int
    pad: int | None
    unknown: int | None
    adds_begin: bool
    """Whether a prompt begins with ``begin`` that its text does not hold."""


def write(config: ExportConfig, source: Source, work: Path) -> Written:
    """Write the file and its Modelfile.

    Raises:
        ModelError: llama.cpp has no such architecture or tokenizer, its tool for 4 bits is not
            there, or the file does not read back as what was written.
    """
    tool = shutil.which(_TOOL)
    if config.precision == "q4_k_m" and not tool:
        hint = "install llama.cpp, or take --precision q8_0"
        raise ModelError(config.out, f"llama.cpp's {_TOOL} for q4_k_m", "none on PATH", hint)
    logging.getLogger("gguf").setLevel(logging.ERROR)
    with merging(source) as both:
        check_apart(both.apart(both.model), "float32", config.out)
        check_vocabulary(both.tokenizer, both.model, config.run)
        words = vocabulary.read(
            both.tokenizer, both.model.get_input_embeddings().num_embeddings, config.run
        )
        tokens = _tokens(both.tokenizer, source)
        precision = "float16" if config.precision == "q4_k_m" else config.precision
        _check_range(both, precision, config.out)
        model = _Model(both.model, precision, config.run)
        file = work / NAME
        _write_file(file, model, words, tokens, modelfile.jinja(source.facts))
        if config.precision == "q4_k_m":
            _quantise(str(tool), file)
        apart = compare(file, model, TOLERANCE[config.precision])
        context = int(both.model.config.max_position_embeddings)
        end = both.tokenizer.convert_ids_to_tokens(tokens.end)
    text = modelfile.render(source.facts, modelfile.Model(NAME, context, end), source.digest)
    (work / modelfile.NAME).write_text(text, encoding="utf-8", newline="\n")
    return Written(
        {"weights_apart": apart, "tolerance": TOLERANCE[config.precision]},
        f"{NAME} in {config.precision}, weights {apart:.2e} apart from adapter and base; "
        f"ollama create NAME -f {config.out}/{modelfile.NAME}",
    )


def read(path: Path) -> "GGUFReader":
    """Open a GGUF file that is whole: every tensor of its header is there, and nothing behind.

    Raises:
        ModelError: it is no GGUF file, or one that was cut or continued.
    """
    from gguf import GGUFReader

    expected = "a whole GGUF file"
    try:
        size = path.stat().st_size
        reader = GGUFReader(path)
    # Of numpy for the most part, wherever the bytes end.
    except (OSError, ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ModelError(str(path), expected, f"another ({first_line(error)})", _AGAIN) from error
    ends = [int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors]
    end = -(-max(ends, default=reader.data_offset) // reader.alignment) * reader.alignment
    if size != end:
        raise ModelError(str(path), f"{expected} of {end:,} bytes", f"{size:,}", _AGAIN)
    return reader


class _Model:
    """A Llama's settings and tensors, under llama.cpp's names and in its layout."""

    def __init__(self, model: Any, precision: str, where: str) -> None:
        """Read the settings.

        Raises:
            ModelError: it is no Llama, or one that turns its positions in an unknown way.
        """
        from gguf import MODEL_ARCH, get_tensor_name_map

        self.model, self.config, self.precision = model, model.config, precision
        kind = str(self.config.model_type)
        if kind != "llama":
            hint = "export --format merged"
            raise ModelError(where, "a model of the Llama family for GGUF", kind, hint)
        self.rotary = Rotary(self.config, where)
        self._names = get_tensor_name_map(MODEL_ARCH.LLAMA, self.config.num_hidden_layers)

    def describe(self, writer: "GGUFWriter") -> None:
        """Write the settings."""
        from gguf import GGML_QUANT_VERSION, LlamaFileType

        config = self.config
        writer.add_type("model")
        writer.add_file_type(LlamaFileType[_FILE_TYPES[self.precision]])
        writer.add_quantization_version(GGML_QUANT_VERSION)
        writer.add_vocab_size(config.vocab_size)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(self.rotary.width)
        writer.add_value_length(self.rotary.width)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        self.rotary.describe(writer)

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield names and float32 values, the embeddings once where they are tied."""
        config = self.config
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        if (factors := self.rotary.factors) is not None:
            yield "rope_freqs.weight", factors
        embeddings = self.model.get_input_embeddings().weight
        is_tied = self.model.get_output_embeddings().weight is embeddings
        for name, tensor in self.model.state_dict().items():
            if name == "lm_head.weight" and is_tied:
                continue
            value = tensor.float().numpy()
            if (count := heads.get(name.split(".")[-2])) is not None:
                value = interleaved(value, count)
            yield self._names.get_name(name, try_suffixes=(".weight", ".bias")), value

    def form(self, value: np.ndarray) -> Any:
        """Return the form of a tensor: vectors stay whole, as do rows that fill no block."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        if value.ndim < 2:
            return GGMLQuantizationType.F32
        form = GGMLQuantizationType[_TYPES[self.precision]]
        return form if value.shape[-1] % GGML_QUANT_SIZES[form][0] == 0 else (
            GGMLQuantizationType.F16
        )  # fmt: skip


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Lay a projection's rows as llama.cpp turns them: in pairs, not in halves of a head."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def _write_file(
    path: Path, model: _Model, words: Vocabulary, tokens: Tokens, template: str
) -> None:
    """Write a file, one tensor in memory at a time."""
    from gguf import GGUFWriter, quants

    writer = GGUFWriter(path, "llama")
    try:
        model.describe(writer)
        _describe_tokens(writer, words, tokens)
        writer.add_chat_template(template)
        for name, value in model.tensors():
            form = model.form(value)
            shape = quants.quant_shape_to_byte_shape(value.shape, form)
            writer.add_tensor_info(
                name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=form
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, value in model.tensors():
            writer.write_tensor_data(quants.quantize(value, model.form(value)))
    finally:
        writer.close()


def _describe_tokens(writer: "GGUFWriter", words: Vocabulary, tokens: Tokens) -> None:
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    if words.scores:
        writer.add_token_scores(words.scores)
    writer.add_token_types(words.kinds)
    if words.merges:
        writer.add_token_merges(words.merges)
    writer.add_eos_token_id(tokens.end)
    if tokens.begin is not None:
        writer.add_bos_token_id(tokens.begin)
    if tokens.pad is not None:
        writer.add_pad_token_id(tokens.pad)
    if tokens.unknown is not None:
        writer.add_unk_token_id(tokens.unknown)
    writer.add_add_bos_token(tokens.adds_begin)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(words.adds_space)


def _tokens(tokenizer: Any, source: Source) -> Tokens:
    """Read the special tokens as the run used them.

    Raises:
        ModelError: prompts begin with other tokens than one that begins a text.
    """
    plain = TextTokenizer(tokenizer)
    begin = tokenizer.bos_token_id
    # What a text with nothing but white space in it begins with.
    ids = plain.alone(["x"])[0]
    bare = tokenizer.backend_tokenizer.encode("x", add_special_tokens=False).ids
    added = ids[: len(ids) - len(bare)]
    if added not in ([], [begin]):
        expected = "a tokenizer that begins a text with one token at most"
        raise ModelError(str(source.folder), expected, f"tokens {added}")
    chat = source.facts.chat
    return Tokens(
        begin=begin,
        end=TextTokenizer(tokenizer, chat).eos,
        pad=tokenizer.pad_token_id,
        unknown=tokenizer.unk_token_id,
        # A chat template's own text holds what begins it.
        adds_begin=bool(added) and chat is None,
    )


def _check_range(both: Merged, precision: str, where: str) -> None:
    """Refuse weights that 16 bits cannot hold."""
    import torch

    if precision == "float16":
        halves = ((name, tensor.half()) for name, tensor in both.model.named_parameters())
        with torch.inference_mode():
            check_finite(halves, where, "export with --precision bf16 or float32")


def _quantise(tool: str, file: Path) -> None:
    """Let llama.cpp's tool make 4 bits of a file of 16."""
    small = file.with_suffix(".q4_k_m")
    done = subprocess.run(  # noqa: S603
        [tool, str(file), str(small), "Q4_K_M"], capture_output=True, text=True, errors="replace",
        check=False,
    )  # fmt: skip
    if done.returncode or not small.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        found = lines[-1] if lines else f"exit code {done.returncode}"
        raise ModelError(str(file), f"{_TOOL} to write q4_k_m", found)
    small.replace(file)


def compare(file: Path, model: _Model, tolerance: float) -> float:
    """Read a file back and return the largest relative distance of its tensors (2-norm).

    Raises:
        ModelError: it is cut, lacks a tensor or has one too many, or one is too far away.
    """
    from gguf import dequantize

    written = {tensor.name: tensor for tensor in read(file).tensors}
    farthest = 0.0
    for name, value in model.tensors():
        if (tensor := written.pop(name, None)) is None:
            raise ModelError(str(file), f"the tensor {name}", "none")
        back = dequantize(tensor.data, tensor.tensor_type).reshape(value.shape)
        size = float(np.linalg.norm(value)) or 1.0
        apart = float(np.linalg.norm(back - value)) / size
        if not apart <= tolerance:  # a NaN as well
            expected = f"{name} within {tolerance:.0e} of the run's"
            raise ModelError(str(file), expected, f"{apart:.2e}", "take another --precision")
        farthest = max(farthest, apart)
    if written:
        raise ModelError(str(file), "the run's tensors alone", f"{min(written)} beside them")
    return farthest
