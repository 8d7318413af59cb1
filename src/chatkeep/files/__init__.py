"""Files that were sent with messages, each its owner's alone.

A file is announced first and uploaded afterwards, in one piece and once, or comes whole.
What was never sent with a message, or whose conversations are gone, is erased after a day.

`records` has the rows, `names` how a message names a file, and `sent` in which conversations it
was sent: all that is here under its name. `stored` has the bytes, in the row of
each or in a bucket, and `buckets` is how one is reached.
What of them a model is shown is the business of `chatkeep.answering.shown_files`.
"""

from chatkeep.files.names import ADDRESS, file_of, in_parts, part_of
from chatkeep.files.records import (
    FileLimits,
    FileRow,
    announce,
    erase,
    fill,
    find,
    list_files,
    objects_of,
    purge_unsent,
    read,
    safe_name,
    save,
    sizes,
)
from chatkeep.files.sent import leaving, objects_left, using

__all__ = [
    "ADDRESS",
    "FileLimits",
    "FileRow",
    "announce",
    "erase",
    "file_of",
    "fill",
    "find",
    "in_parts",
    "leaving",
    "list_files",
    "objects_left",
    "objects_of",
    "part_of",
    "purge_unsent",
    "read",
    "safe_name",
    "save",
    "sizes",
    "using",
]
