"""torch's libraries below a folder whose name the C++ compiler's command line would misread."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import cpp_extension

from bcd import toolchain

COMPILE = """
import torch
from torch.utils import cpp_extension
cpp_extension.TORCH_LIB_PATH = {path!r}
from bcd import AdamW, BlockCoordinateDescent, Cyclic, by_layer
layers = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Linear(4, 4)) for _ in range(2)])
optimizer = BlockCoordinateDescent(
    by_layer(layers), rule=AdamW(), order=Cyclic(), inner_steps=1, lr=0.1, compiled=True
)
layers(torch.ones(2, 4)).sum().backward()
optimizer.step()
print("done")
"""


@pytest.fixture
def named(tmp_path, monkeypatch):
    """named(folder): torch's libraries lie below that folder."""

    def name(folder):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "lib"
        path.symlink_to(cpp_extension.TORCH_LIB_PATH)
        monkeypatch.setattr(cpp_extension, "TORCH_LIB_PATH", str(path))
        toolchain.name_libraries_plainly.cache_clear()
        return path

    yield name
    toolchain.name_libraries_plainly.cache_clear()


@pytest.mark.parametrize("folder", ["my clone", "a'b", "(1)", "$x", "a;b"])
def test_an_odd_path_gets_a_plain_name(folder, named):
    path = named(folder)
    toolchain.name_libraries_plainly()
    link = Path(cpp_extension.TORCH_LIB_PATH)
    assert link != path
    assert folder not in str(link)
    assert link.resolve() == path.resolve()


def test_a_plain_path_stays(named):
    path = named("plain")
    toolchain.name_libraries_plainly()
    assert str(path) == cpp_extension.TORCH_LIB_PATH


@pytest.mark.slow
def test_compiling_below_an_odd_folder_works(named, tmp_path):
    path = named("my clone's folder (1)")
    command = [sys.executable, "-c", COMPILE.format(path=str(path))]
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    root = Path(toolchain.__file__).parents[1]
    done = subprocess.run(command, cwd=root, env=os.environ | cache, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
