"""The same cleaning work done with other tools, each as its users would write it.

Read JSON lines, repair title and content to the same text as ours, keep rows with a title and a
description within the bounds, write Parquet. One process a run:
``python -m tests.benchmarks.peers NAME SOURCE OUT MIN MAX WORKERS``. Two repair nothing: DuckDB,
the floor that reading, filtering and writing set, and our own driver with pyarrow's parser alone.
"""

import html
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def repair(text: str) -> str:
    """Repair one text, the definition itself."""
    import ftfy

    return " ".join(ftfy.fix_text(html.unescape(text)).split())


def _kept(row: dict[str, str], low: int, high: int) -> dict[str, str] | None:
    title, content = repair(row["title"]), repair(row["content"])
    if not title or not low <= len(content) <= high:
        return None
    return {"uid": row["uid"], "title": title, "content": content}


def datasets_map(source: str, out: Path, low: int, high: int, workers: int) -> None:
    """Run `datasets`: load, map, filter with `num_proc`, to Parquet."""
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "json", data_files=source, split="train", cache_dir=str(out / "cache")
    ).select_columns(["uid", "title", "content"])
    repaired = loaded.map(
        lambda row: {"title": repair(row["title"]), "content": repair(row["content"])},
        num_proc=workers,
    )
    kept = repaired.filter(
        lambda row: bool(row["title"]) and low <= len(row["content"]) <= high, num_proc=workers
    )
    kept.to_parquet(str(out / "part.parquet"))


def dask_bag(source: str, out: Path, low: int, high: int, workers: int) -> None:
    """Run Dask bag, line by line, on local worker processes."""
    import dask.bag
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        lines = dask.bag.read_text(source, blocksize=16 * 2**20)
        rows = lines.map(json.loads).map(_kept, low, high).filter(bool)
        rows.to_dataframe(meta={"uid": str, "title": str, "content": str}).to_parquet(str(out))


def polars_function(source: str, out: Path, low: int, high: int, workers: int) -> None:
    """Run Polars with the repair as a Python function on both columns."""
    import polars as pl

    names = ("uid", "title", "content")
    frame = pl.scan_ndjson(source, schema_overrides=dict.fromkeys(names, pl.String))
    repaired = frame.select(
        pl.col("uid"),
        *(pl.col(name).map_elements(repair, return_dtype=pl.String) for name in names[1:]),
    )
    length = pl.col("content").str.len_chars()
    kept = repaired.filter((pl.col("title") != "") & length.is_between(low, high))
    kept.collect().write_parquet(out / "part.parquet")


def datatrove_filter(source: str, out: Path, low: int, high: int, workers: int) -> None:
    """Run datatrove: reader, formatter, filter, Parquet writer, on local processes."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.filters import LambdaFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import ParquetWriter

    from tests.benchmarks.peers import repair as fix

    def read(self: object, data: dict[str, str], path: str, index: int) -> dict[str, Any]:
        title = {"title": data["title"]}
        return {"text": data["content"] or " ", "id": data["uid"], "metadata": title}

    def mend(document: object) -> bool:
        document.text = fix(document.text)  # type: ignore[attr-defined]
        document.metadata["title"] = fix(document.metadata["title"])  # type: ignore[attr-defined]
        title = document.metadata["title"]  # type: ignore[attr-defined]
        return bool(title) and low <= len(document.text) <= high  # type: ignore[attr-defined]

    pieces = split_lines(source, out / "input", workers)
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(pieces), glob_pattern="*.jsonl", adapter=read),
            LambdaFilter(mend),
            ParquetWriter(str(out), compression="zstd"),
        ],
        tasks=workers,
        workers=workers,
        logging_dir=str(out / "logs"),
    ).run()


def split_lines(source: str, folder: Path, pieces: int) -> Path:
    """Split a file by lines, as datatrove takes whole files a task."""
    folder.mkdir(parents=True)
    size = Path(source).stat().st_size
    with Path(source).open("rb") as file:
        for index in range(pieces):
            with (folder / f"{index}.jsonl").open("wb") as piece:
                while file.tell() < size * (index + 1) / pieces and (line := file.readline()):
                    piece.write(line)
    return folder


def duckdb_floor(source: str, out: Path, low: int, high: int, workers: int) -> None:
    """Run DuckDB without any repair of text: read, filter by raw length, write."""
    import duckdb

    columns = "{uid: 'VARCHAR', title: 'VARCHAR', content: 'VARCHAR'}"
    duckdb.sql(f"SET threads = {workers}")
    duckdb.sql(
        f"COPY (SELECT * FROM read_json('{source}', format='newline_delimited', columns={columns}) "  # noqa: S608
        f"WHERE title <> '' AND length(content) BETWEEN {low} AND {high}) "
        f"TO '{out / 'part.parquet'}' (FORMAT parquet, COMPRESSION zstd)"
    )


def parse_floor(source: str, out: Path, low: int, high: int, workers: int) -> None:
    """Run our own driver with parsing alone: no repair, keys, splits, digests or balance."""
    from data.cluster.client import connect
    from data.cluster.parts import results
    from preprocessing import clean
    from preprocessing.config import CleanConfig
    from preprocessing.files import find

    config = CleanConfig(source=source, out=str(out))
    with connect(workers, None) as client:

        def submit(block: clean.RawBlock, attempt: int) -> object:
            name = f"parse-{block.index}-{attempt}"
            return client.submit(parse_block, block, out, low, high, key=name, pure=False)

        blocks = clean._blocks(config, find(source))
        for _ in results(client, blocks, submit):
            pass


def parse_block(block: Any, out: Path, low: int, high: int) -> int:
    """Parse one block with pyarrow.json, keep rows by their raw length, write them."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    from preprocessing.source import read_lines

    with block.file.open() as file:
        data = read_lines(file, block.start, block.stop, 4 * 2**20).data
    fields = pa.schema([(name, pa.string()) for name in ("uid", "title", "content")])
    table = pj.read_json(
        pa.BufferReader(data),
        pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
        pj.ParseOptions(explicit_schema=fields, unexpected_field_behavior="ignore"),
    )
    length = pc.utf8_length(table["content"])
    stay = pc.and_(pc.greater_equal(length, low), pc.less_equal(length, high))
    kept = table.filter(pc.and_(stay, pc.not_equal(table["title"], "")))
    pq.write_table(kept, out / f"part-{block.index:05d}.parquet", compression="zstd")
    return int(kept.num_rows)


PEERS: dict[str, Callable[[str, Path, int, int, int], None]] = {
    "datatrove": datatrove_filter,
    "datasets.map": datasets_map,
    "Dask bag": dask_bag,
    "Polars + ftfy": polars_function,
    "DuckDB (no repair)": duckdb_floor,
    "parsing (no repair)": parse_floor,
}


def main(name: str, source: str, out: str, *numbers: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True)
    low, high, workers = (int(number) for number in numbers)
    PEERS[name](source, folder, low, high, workers)


if __name__ == "__main__":
    main(*sys.argv[1:])
