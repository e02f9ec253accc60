"""A subset's files for the hub: Parquet a split, and a description in Croissant."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.artefacts import schema
from data.artefacts.dataset import Subset
from training.publish.config import PublishConfig

CROISSANT = "croissant.json"
_COLUMNS = ("uid", "title", "content")
"""Of every subset; what says where a row came from stays here."""
# https://docs.mlcommons.org/croissant/docs/croissant-spec.html
_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs",
    "column": "cr:column", "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip


def columns(subset: Subset) -> list[str]:
    """Name the columns that are published."""
    return [*_COLUMNS, *subset.attributes]


def splits(subset: Subset) -> dict[str, int]:
    """Count the rows of each split that has some."""
    counts = {split: subset.count(split) for split in schema.SPLITS}
    return {split: count for split, count in counts.items() if count}


def write(subset: Subset, folder: Path, config: PublishConfig) -> None:
    """Write the rows of each split as ``data/SPLIT.parquet``, and ``croissant.json``."""
    (folder / "data").mkdir(parents=True)
    names, files = columns(subset), []
    form = pa.schema([pa.field(name, subset.schema.field(name).type) for name in names])
    for split in splits(subset):
        file = folder / f"data/{split}.parquet"
        with pq.ParquetWriter(file, form) as writer:
            for batch in subset.batches(split):
                writer.write_batch(batch.select(names).cast(form))
        files.append((split, file))
    text = json.dumps(_croissant(subset, files, config), indent=2, ensure_ascii=False)
    (folder / CROISSANT).write_text(text, encoding="utf-8", newline="\n")


def _croissant(
    subset: Subset, files: list[tuple[str, Path]], config: PublishConfig
) -> dict[str, Any]:
    """Describe the files and their columns, a set of records a split."""
    owner, name = config.to.split("/")
    described: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": "Titles of products with their descriptions, cleaned and split.",
        "creator": {"@type": "sc:Person", "name": owner},
        "url": f"https://huggingface.co/datasets/{config.to}",
        "version": "1.0.0",
        "citeAs": f"{name}, made from the rows of digest {subset.record.digest}",
        "distribution": [_file(split, file) for split, file in files],
        "recordSet": [_records(split, columns(subset)) for split, _ in files],
    }
    return described | ({"license": config.license} if config.license else {})


def _file(split: str, file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject", "@id": f"{split}-file", "name": f"{split}-file",
        "contentUrl": f"data/{split}.parquet", "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": "application/x-parquet", "sha256": digest,
    }  # fmt: skip


def _records(split: str, names: list[str]) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field", "@id": f"{split}/{name}", "name": name, "dataType": "sc:Text",
            "source": {"fileObject": {"@id": f"{split}-file"}, "extract": {"column": name}},
        }
        for name in names
    ]  # fmt: skip
    return {"@type": "cr:RecordSet", "@id": split, "name": split, "field": fields}
