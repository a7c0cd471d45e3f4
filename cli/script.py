"""`python -m cli.script` puts the command `bcd` beside the interpreter that runs it.

The clone is not installed: a file of the name `bcd` among the scripts of the environment finds it. So nothing of the
clone is in site-packages, and `import bcd` means what it meant before; the command itself always takes the clone's.
"""

import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = """\
#!/bin/sh
''''exec {python} "$0" "$@" # '''
# The command line of {root}; written by `python -m cli.script`.
import sys

if __name__ == "__main__":  # processes that a command starts read this file too
    sys.path.insert(0, {root!r})
    from cli.main import main

    main()
"""


def write(folder: Path) -> Path:
    """Write the script to the folder.

    Returns:
        Its path.

    Raises:
        OSError: when the folder cannot be written to.
    """
    quoted = "'" + sys.executable.replace("'", "'\\''") + "'"
    path = folder / "bcd"
    path.write_text(TEXT.format(python=quoted, root=str(ROOT)), encoding="utf-8")
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    print(write(Path(sysconfig.get_path("scripts"))))
