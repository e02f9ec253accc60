"""A TinyLlama of random bf16 weights with a tokenizer of invented text: nothing is downloaded.

Speed and memory do not depend on what the weights say.
``python -m tests.benchmarks.tinyllama FOLDER SHAPE DEVICE`` builds one, of a shape in JSON.
"""

import json
import sys
from pathlib import Path

from data.prompt import Prompt
from data.synthetic.records import lines

SHAPE = {
    "vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
    "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
}  # fmt: skip


def titles(rows: int) -> list[str]:
    """Return titles of the invented catalogue, none empty."""
    candidates = (json.loads(line)["title"] for line in lines(7, 0, 3 * rows + 100, 10**6))
    return [title for title in candidates if title.strip()][:rows]


def save_tokenizer(folder: Path, vocabulary: int) -> None:
    """Train a byte-level BPE on invented records and the prompt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    records = [json.loads(line) for line in lines(7, 0, 30_000, 10**6)]
    texts = [f"{record['title']}\n{record['content']}" for record in records]
    tokenizer.train_from_iterator(texts + [Prompt().render("")] * 100, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="<unk>", padding_side="left",
    ).save_pretrained(folder)  # fmt: skip


def build(folder: Path, shape: dict[str, int], device: str) -> None:
    """Save the model and its tokenizer, unless they are there."""
    if (folder / "config.json").is_file():
        return
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder, shape["vocab_size"])
    torch.manual_seed(0)
    config = LlamaConfig(**shape, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    with torch.device(device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3])
