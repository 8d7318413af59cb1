"""Settings: how much of files a person may have, and a bucket for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep.config import values as read
from chatkeep.config.reading import setting
from chatkeep.config.values import Refused, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

_BUCKET: Final = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_REGION: Final = r"[a-z0-9][a-z0-9-]{0,62}"
_PREFIX: Final = r"([A-Za-z0-9_-][A-Za-z0-9._-]{0,62}/){1,5}"
_ACCESS_KEY: Final = r"[\x21-\x7e]{1,200}"


def _matching(pattern: str, wanted: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise Refused(wanted)
        return text

    return parse


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """How much of files a person may have; a bucket for them, in place of the database."""

    files_s3_bucket: str | None = setting(
        "FILES_S3_BUCKET",
        _matching(_BUCKET, "must be the name of a bucket: 3 to 63 of a-z, 0-9, dots and dashes"),
    )
    files_s3_endpoint: str | None = setting("FILES_S3_ENDPOINT", read.web_address)
    files_s3_region: str = setting(
        "FILES_S3_REGION",
        _matching(_REGION, "must be a region like eu-central-1"),
        default="us-east-1",
    )
    files_s3_access_key_id: str | None = setting(
        "FILES_S3_ACCESS_KEY_ID", _matching(_ACCESS_KEY, "must be one word of ASCII characters")
    )
    files_s3_secret_access_key: Secret | None = setting("FILES_S3_SECRET_ACCESS_KEY", read.secret)
    files_s3_prefix: str = setting(
        "FILES_S3_PREFIX",
        _matching(_PREFIX, "must be a path like chatkeep/ that ends with a slash"),
        default="chatkeep/",
    )
    files_bytes_per_user: int = setting(
        "FILES_BYTES_PER_USER", read.whole(1, 1 << 50), default=1 << 30
    )


def file_problems(settings: FileSettings, *, production: bool) -> list[str]:
    """Return what is wrong with the settings of the bucket taken together."""
    given = {
        "FILES_S3_ENDPOINT": settings.files_s3_endpoint,
        "FILES_S3_ACCESS_KEY_ID": settings.files_s3_access_key_id,
        "FILES_S3_SECRET_ACCESS_KEY": settings.files_s3_secret_access_key,
    }
    if settings.files_s3_bucket is None:
        return [f"{name} needs FILES_S3_BUCKET." for name, value in given.items() if value]
    problems = []
    if (settings.files_s3_access_key_id is None) != (settings.files_s3_secret_access_key is None):
        problems.append("FILES_S3_ACCESS_KEY_ID and FILES_S3_SECRET_ACCESS_KEY need each other.")
    if production and (settings.files_s3_endpoint or "https://").startswith("http://"):
        problems.append("FILES_S3_ENDPOINT must begin with https:// in production.")
    return problems
