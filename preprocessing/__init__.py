"""Raw catalogue lines in, clean Parquet shards out. Knows nothing of models."""
