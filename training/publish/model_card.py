"""The card of a model: what it was made from and how, what was measured, and what it cannot do."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from data.artefacts.run import BASE, RunFacts
from training.publish import figures
from training.publish.lineage import Lineage, Report
from training.publish.markdown import block, code, plain, table
from training.publish.sections import data, digests, listed

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

_LIBRARY = {"merged": "transformers", "gguf": "gguf", "adapter": "peft"}
_RELATION = {"merged": "finetune", "gguf": "quantized", "adapter": "adapter"}
_SETTINGS = ("learning_rate", "batch_size", "epochs", "max_steps", "schedule", "warmup_steps",
             "weight_decay", "optimizer", "max_grad_norm", "order")  # fmt: skip
_FACTS = ("backend", "precision", "quantize", "trainable_parameters", "steps", "epochs", "tokens",
          "final_loss", "best_validation_loss", "adapter_step", "device", "processes",
          "peak_memory_gib", "samples_per_second", "truncated")  # fmt: skip
_USE = {
    "merged": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{to}")
tokenizer = AutoTokenizer.from_pretrained("{to}")
prompt = {prompt!r}.replace("TITLE", "Your title")
ids = tokenizer(prompt, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens={longest})[0]))""",
    "adapter": """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{to}")
tokenizer = AutoTokenizer.from_pretrained("{to}")
prompt = {prompt!r}.replace("TITLE", "Your title")
ids = tokenizer(prompt, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens={longest})[0]))""",
    "gguf": """hf download {to} --local-dir descriptions
ollama create descriptions -f descriptions/Modelfile
ollama run descriptions "Your title\"""",
}


@dataclass(frozen=True)
class Model:
    """An exported model that is published."""

    to: str
    form: str
    """merged, gguf or adapter."""
    lineage: Lineage
    report: Report | None
    license: str | None
    """Of the base."""

    @property
    def facts(self) -> RunFacts:
        """What is recorded for later stages."""
        return RunFacts.of(self.lineage.top)

    @property
    def base(self) -> str:
        """The base as the run names it; empty: none is recorded."""
        run = self.lineage.stages.get("train")
        name = str(run.facts.get("base", "")) if run else self.facts.base
        return "" if name == BASE else name

    @property
    def base_on_hub(self) -> str | None:
        """The base's name on the hub; None: it is a folder, or not recorded."""
        is_there = self.base.count("/") == 1 and not self.base.startswith((".", "/", "~"))
        return self.base if is_there else None

    def licensed(self, known: str | None) -> "Model":
        """Return the same model with the licence of its base."""
        return replace(self, license=known)


def render(model: Model) -> str:
    """Write the card."""
    sections = [
        f"# {plain(model.to.partition('/')[2])}",
        "Writes the description of a product from its title.",
        *_verdict(model),
        "## Use",
        *_use(model),
        "## Data",
        *data(model.lineage),
        "## Training",
        *_training(model),
        "## Evaluation",
        *_evaluation(model.report),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(model)),
        "## Licence",
        _licence(model),
        "## Lineage",
        digests(model.lineage),
    ]
    return f"---\n{_metadata(model).to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(model: Model) -> "ModelCardData":
    from huggingface_hub import ModelCardData

    base = model.base_on_hub
    more: dict[str, Any] = {"base_model_relation": _RELATION[model.form]} if base else {}
    if model.report:
        dataset = {"name": "held-out titles of the catalogue", "type": "catalogue"}
        task = {"type": "text-generation", "name": "Description of a title"}
        rows = figures.results(model.report)
        more["model-index"] = [
            {"name": model.to.partition("/")[2],
             "results": [{"task": task, "dataset": dataset, "metrics": rows}]}
        ]  # fmt: skip
    return ModelCardData(
        base_model=base, library_name=_LIBRARY[model.form], license=model.license,
        pipeline_tag="text-generation", tags=["product-descriptions", "title-to-description"],
        **more,
    )  # fmt: skip


def _base(model: Model) -> str:
    """Name the base; of a folder its last part, as paths are this machine's own."""
    return model.base_on_hub or os.path.basename(model.base) or "a tiny one of its own"


def _verdict(model: Model) -> list[str]:
    if not model.report:
        return ["**Not evaluated**: this card shows no report."]
    verdict = model.report.verdict
    rows = model.report.values["sides"]["unseen"]["rows"]
    return [f"**{plain(verdict['headline'])}** (judged on {rows:,} titles that it was not "
            "trained on)."]  # fmt: skip


def _use(model: Model) -> list[str]:
    facts = model.facts
    frame = facts.prompt.render("TITLE") if facts.prompt else "TITLE"
    if facts.chat:
        frame = facts.chat.head + frame + facts.chat.tail
    longest = facts.longest_completion_tokens or 256
    base = model.base_on_hub or f"{model.to.partition('/')[2]}/base"
    use = _USE[model.form].format(to=model.to, prompt=frame, longest=longest, base=base)
    return [block(use, "sh" if model.form == "gguf" else "python"),
            "The prompt that it was trained with, for the title TITLE:", block(frame)]  # fmt: skip


def _training(model: Model) -> list[str]:
    if not (run := model.lineage.stages.get("train")):
        return ["Not recorded where this card was made."]
    config, facts = run.config, run.facts
    lora = {f"lora.{name}": value for name, value in config.get("lora", {}).items()}
    settings = {name: config.get("optimisation", {}).get(name) for name in _SETTINGS}
    plain_settings = {"loss_on": config.get("loss_on"), "seed": config.get("seed")}
    values = {
        "base": _base(model), "base_digest": facts.get("base_digest"),
        "max_length": facts.get("max_length"), **lora, **settings, **plain_settings,
        **{f"{name} (reached)" if name in settings else name: facts.get(name) for name in _FACTS},
    }  # fmt: skip
    if plan := facts.get("plan"):
        values |= {f"plan: {name}": plan.get(name)
                   for name in ("predicted_seconds", "actual_seconds")}  # fmt: skip
    shown = [[plain(name), code(value)] for name, value in values.items() if value is not None]
    return [table(["setting", "value"], shown)]


def _evaluation(report: Report | None) -> list[str]:
    if not report:
        return ["None is shown: whether it is fit for anything was not measured here."]
    side = report.values["sides"]["unseen"]
    decodings: list[dict[str, Any]] = [*report.values["settings"]["decoding"].values(), {}]
    return [
        f"On {side['rows']:,} held-out titles, with 95 % intervals. "
        f"Decoding: {listed(decodings[0])}.",
        figures.metrics(report),
        figures.verdict(report),
    ]


def _limits(model: Model) -> list[str]:
    facts, lines = model.facts, []
    if model.report:
        missed = [line for line in model.report.verdict["lines"] if line["outcome"] == "missed"]
        lines += [f"{plain(line['claim'])}: **no**. {plain(line['told'])}." for line in missed]
    if facts.max_length:
        lines.append(f"Trained on rows of at most {facts.max_length:,} tokens, prompt and text.")
    if facts.longest_completion_tokens:
        lines.append(f"Its texts had at most {facts.longest_completion_tokens:,} tokens.")
    if facts.prompt and facts.prompt.neighbours:
        lines.append("It was trained with similar titles in its prompt and is weaker without.")
    lines += [
        "It states what a text of the catalogue would state, true or not: check numbers and names.",
        "It learned from descriptions that others wrote, and may repeat pieces of them.",
    ]
    return lines


def _licence(model: Model) -> str:
    base = code(_base(model))
    known = f"{code(model.license)}, that of its base, {base}" if model.license else (
        f"Not known here: it is bound by the licence of its base, {base}"
    )  # fmt: skip
    return f"{known}. The texts it learned from have their own rights."
