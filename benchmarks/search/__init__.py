"""What a search costs and how right it is, beside the integration guide's tables, faiss and PostgreSQL's defaults.

    python -m benchmarks.search                      # 20,000 and 100,000 images
    python -m benchmarks.search --rows 1000000       # what is claimed of a million; takes an hour and 30 GB of disk
    python -m benchmarks.search --only fused,filters

Each table is printed when it is done. All that a line compares is measured in the same run, one after the other. The
database lies in a temporary folder, or stays in the one that --home names and is used again by the next run.
"""
