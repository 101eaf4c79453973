"""Prints what segjax says to each bad input, as a table in Markdown.

python tests/print_bad_input.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    test = Path(__file__).with_name("test_bad_input.py")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.md"
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--no-header", str(test)],
            cwd=test.parent.parent,
            env=os.environ | {"SEGJAX_BAD_INPUT_TABLE": str(table)},
            stdout=sys.stderr,
            check=False,
        )
        print(table.read_text(), end="")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
