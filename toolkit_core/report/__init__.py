"""What the command line shows: progress bars and tables."""

from .bars import download_bars, progress_bars
from .found import print_duplicates, print_hits, print_results
from .images import print_inspection, print_record, print_texts
from .library import (
    UNTRAINED,
    print_export_report,
    print_failed,
    print_import_report,
    print_index_report,
    print_missing,
    print_reread_report,
    print_sealed,
    print_status,
    print_tags,
    print_weights,
)

__all__ = [
    "UNTRAINED",
    "download_bars",
    "print_duplicates",
    "print_export_report",
    "print_failed",
    "print_hits",
    "print_import_report",
    "print_index_report",
    "print_inspection",
    "print_missing",
    "print_record",
    "print_reread_report",
    "print_results",
    "print_sealed",
    "print_status",
    "print_tags",
    "print_texts",
    "print_weights",
    "progress_bars",
]
