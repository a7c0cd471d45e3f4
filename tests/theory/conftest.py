"""What the tests of theory share: the sweeps of conf/bound, composed once."""

import pytest
from hydra import initialize_config_dir

import records
from theory import verify


@pytest.fixture(scope="session")
def sweeps() -> dict[tuple[str, str], verify.Job]:
    """Every bound on every family, as `python -m theory.verify` runs them: Hydra composes a hundred configs."""
    with initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"):
        return {job.label: job for job in verify.plan([])}
