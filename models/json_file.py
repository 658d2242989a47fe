"""JSON files from untrusted sources: read whole, or refused in a few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST_JSON = 100_000_000  # bytes; the longest that is read here is a tokenizer of some 20 MB


class NotReadable(ValueError):
    """Why a file holds no JSON object: the end of a sentence that names the file."""


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; NotReadable where there is none."""
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise NotReadable(f"it has more than {LARGEST_JSON / 1e6:.0f} MB")
        content = json.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise NotReadable(error.strerror or "it cannot be opened") from error
    except UnicodeDecodeError as error:
        raise NotReadable("it is not text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotReadable(f"it stops being JSON at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise NotReadable("it holds a number that is too long, or is nested too deeply") from error
    if not isinstance(content, dict):
        raise NotReadable("it holds no JSON object")
    return content
