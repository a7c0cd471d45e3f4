"""A name without spaces for torch's libraries, which its compiler for CPUs needs.

torch._inductor writes ``-LFOLDER`` unquoted into the command line of the C++ compiler (pytorch#191010): with an
environment below a folder that has a space or an apostrophe in its name, compiling ends with "No closing quotation".
"""

import atexit
import functools
import re
import shutil
import tempfile
from pathlib import Path

from torch.utils import cpp_extension


@functools.cache
def name_libraries_plainly() -> None:
    """Reach torch's libraries by a link in the folder for temporary files, where their own path would be misread."""
    if not re.search(r"[^\w@%+=:,./-]", cpp_extension.TORCH_LIB_PATH):
        return
    folder = Path(tempfile.mkdtemp(prefix="bcd-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link = folder / "lib"
    link.symlink_to(cpp_extension.TORCH_LIB_PATH)
    cpp_extension.TORCH_LIB_PATH = str(link)
