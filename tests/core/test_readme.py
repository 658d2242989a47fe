"""What the README quotes is what is there."""

from __future__ import annotations

import re

from conftest import ROOT


def test_the_client_in_the_readme_is_the_file():
    (quoted,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.S)
    assert quoted == (ROOT / "workflows" / "api" / "client.py").read_text("utf-8")
