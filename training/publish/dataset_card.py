"""The card of a subset: what its rows are, and whose texts they hold."""

from data.artefacts.dataset import Subset
from training.publish import dataset
from training.publish.lineage import Lineage
from training.publish.markdown import code, plain, table
from training.publish.sections import data, digests

WARNING = (
    "> **Warning: these texts are others'.** Titles and descriptions were taken from a catalogue "
    "whose makers and authors hold the rights to them, and may name people and brands. Whoever "
    "publishes or uses this dataset must have the right to: it is uploaded as private, and "
    "nothing here grants a licence to the texts."
)
_ABOUT = {
    "uid": "the product's identifier in the catalogue", "title": "its title, repaired",
    "content": "its description, repaired",
}  # fmt: skip


def render(to: str, subset: Subset, known: str | None) -> str:
    """Write the card."""
    from huggingface_hub import DatasetCardData

    counts = dataset.splits(subset)
    total = sum(counts.values())
    metadata = DatasetCardData(
        license=known, task_categories=["text-generation"], pretty_name=to.partition("/")[2],
        size_categories=[_size(total)], tags=["product-descriptions", "title-to-description"],
        configs=[{"config_name": "default", "data_files": [
            {"split": split, "path": f"data/{split}.parquet"} for split in counts
        ]}],
    )  # fmt: skip
    rows = [[code(name), plain(_ABOUT.get(name, "an attribute of the catalogue"))]
            for name in dataset.columns(subset)]  # fmt: skip
    lineage = Lineage.of(subset.record)
    licence = f"{code(known)}, as its publisher says." if known else "None is granted."
    sections = [
        f"# {plain(to.partition('/')[2])}",
        WARNING,
        f"{total:,} titles of products with their descriptions.",
        "## Columns",
        table(["column", "what"], rows),
        "## Rows",
        *data(lineage),
        "Held-out rows share neither a title nor a near-twin's family with rows to train on.",
        "## Licence",
        licence,
        "## Lineage",
        digests(lineage),
    ]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


def _size(rows: int) -> str:
    """Name the hub's class of a number of rows."""
    edges = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"),
             (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M")]  # fmt: skip
    return next((name for edge, name in edges if rows < edge), "10M<n<100M")
