"""Entry point: Checks every line of a theorem's proof on trajectories of bcd.

Bounds x problem families -> trajectories -> every line of every proof -> one record each.

    python -m theory.verify                                   every bound on the families that it names
    python -m theory.verify bound=a1,b1 problem=quadratic     some of them
    python -m theory.verify bound=a1 problem=quadratic tier=full bound.grid.gamma=[0.3,1.9]

Exit codes: 0 everything holds, 1 a violated line, a line of which no check is above rounding, or a negative control
that was not rejected, 2 bad input. A bound whose class says `refuted` is a published statement that is false: run on
all its families, it succeeds only if its violation is found.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from cli.help import answer

if __name__ == "__main__":
    answer(sys.argv[1:], "verify", "theory.verify", __doc__)  # before what takes seconds to import

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.errors import ConfigCompositionException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import records
from cli.errors import in_one_line, refused, require_plain
from records.provenance import provenance, source_hash
from theory.live import LiveTable
from theory.measure import assemble, inequality_checks, instantiate, require_cases, run_extras, run_part
from theory.options import require_finite, require_options, share_of
from theory.report import details, header, indistinct, row, share, thin_lines, verdict

UNRECORDED = ("force", "records_dir", "tiers", "workers", "bounds", "problems")
"""Keys that change where or whether a run happens, not its result (`tiers` acts through the values it sets)."""

STUDY = "theory"

PARTS = 4
"""Tasks that the instances of a bound on a family are divided into."""


@dataclass(frozen=True)
class Job:
    """One bound on one family.

    Attributes:
        config: resolved.
        study: of the record.
        name: of the record.
    """

    bound: str
    problem: str
    config: dict[str, Any]
    study: str
    name: str

    @property
    def label(self) -> tuple[str, str]:
        """Bound and family."""
        return self.bound, self.problem

    @property
    def key(self) -> str:
        identity = {name: value for name, value in self.config.items() if name not in UNRECORDED}
        return records.run_key(identity, {"code": source_hash(("bcd", "theory"))})


def study_name(overrides: Sequence[str]) -> str:
    """The study "theory" for the sweeps of conf/; overrides of their values make another, so that it stays pure."""
    axes = ("bound=", "problem=", "bounds=", "problems=", "tier=", "force=", "records_dir=", "workers=")
    extra = [item for item in overrides if not item.lstrip("+").startswith(axes)]
    return f"{STUDY}-{records.digest(extra)[:8]}" if extra else STUDY


def options(group: str) -> list[str]:
    """Names of the yamls of a folder of conf/."""
    return GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG)


def plan(overrides: Sequence[str]) -> list[Job]:
    """The jobs that the overrides of the command line mean. Called while Hydra is initialised on conf/.

    Raises:
        ValueError: when a name is unknown or nothing is left.
    """
    config = hydra.compose("verify", list(overrides))
    require_options(config)
    named = {item.partition("=")[0]: item.partition("=")[2] for item in overrides}
    rest = [item for item in overrides if item.partition("=")[0] not in ("bound", "problem", "bounds", "problems")]
    for one, many in (("bound", "bounds"), ("problem", "problems")):
        if one in named and many in named:
            raise ValueError(
                f"{one}={named[one]} and {many}={named[many]} are not possible together: give one of them"
            )
    bounds = [named["bound"]] if "bound" in named else config.bounds or options("bound")
    wanted = [named["problem"]] if "problem" in named else config.problems
    for group, names in (("bound", bounds), ("problem", wanted or [])):
        for name in names:
            if name not in options(group):
                raise ValueError(f"{group}={name!r} is not one of {', '.join(options(group))}")
    jobs = []
    for bound in dict.fromkeys(bounds):
        applies = list(hydra.compose("verify", [*rest_of(rest, "problem"), f"bound={bound}"]).bound.problems)
        for name in applies:
            if name not in options("problem"):
                raise ValueError(f"bound.problems={applies} is not possible: {name!r} is not in conf/problem")
        if "bound" in named and (other := [name for name in wanted or [] if name not in applies]):
            possible = ", ".join(applies) or "none"
            raise ValueError(f"{bound} does not apply to problem={', '.join(other)}: its problems are {possible}")
        running = [name for name in applies if wanted is None or name in wanted]
        if wanted and not running:
            print(f"left out: {bound}, whose problems are {', '.join(applies)}")
        for problem in running:
            composed = hydra.compose("verify", [f"bound={bound}", f"problem={problem}", *rest])
            resolved = OmegaConf.to_container(composed, resolve=True)
            assert isinstance(resolved, dict)  # for the type checker: a DictConfig gives a dict
            values = {str(key): value for key, value in resolved.items()}
            for group in ("bound", "problem"):
                require_finite(group, values[group])
            values["cases"] = share_of(values, problem, running=len(running), every=len(applies), named=named)
            jobs.append(Job(bound, problem, values, study_name(overrides), f"{bound}-{problem}-{config.tier}"))
    for name in dict.fromkeys(wanted or []):
        if jobs and all(job.problem != name for job in jobs):
            print(f"left out: problem={name}, to which none of {', '.join(bounds)} applies")
    if not jobs:
        raise ValueError(f"no bound of {', '.join(bounds)} applies to {', '.join(wanted or ['any problem'])}")
    return jobs


def rest_of(overrides: Sequence[str], group: str) -> list[str]:
    """The overrides that are not inside `group`."""
    return [item for item in overrides if not item.lstrip("+~").startswith(f"{group}.")]


def measured(jobs: Sequence[Job], workers: int, table: LiveTable) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Measurements of every job, in order, from all processes at once; the table follows them."""
    if workers == 1:
        for job in jobs:
            parts, table.running[job.label] = [], lambda: True
            for index in range(PARTS):
                parts.append(run_part(job.config, index, PARTS))
                table.part_done(job.label)
            yield job, assemble(instantiate(job.config)[0], parts, run_extras(job.config))
        return
    # Fresh processes: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        started = []
        for job in jobs:
            parts = [pool.submit(run_part, job.config, index, PARTS) for index in range(PARTS)]
            table.running[job.label] = lambda parts=parts: any(part.running() for part in parts)
            for part in parts:
                part.add_done_callback(lambda _, label=job.label: table.part_done(label))
            started.append((job, parts, pool.submit(run_extras, job.config)))
        for job, parts, extras in started:
            results = [part.result() for part in parts]
            yield job, assemble(instantiate(job.config)[0], results, extras.result())


def run(jobs: Sequence[Job]) -> int:
    """Verify, or read the finished records of the same config and code; print the report; return the exit code.

    Raises:
        ValueError: when a value of a config is not possible.
        InstantiationException: when Hydra meets such a value.
    """
    config = jobs[0].config
    folder = records.ROOT / config["records_dir"]
    records.require_writable(folder / jobs[0].study)
    done: dict[str, dict[str, Any]] = {}
    for job in jobs:
        record = None if config["force"] else records.find(job.study, job.name, job.key, folder)
        if record:
            done[job.name] = record.measurements
    todo = [job for job in jobs if job.name not in done]
    for job in todo:
        require_cases(job.config)  # a wrong value is found before anything runs
    if done:
        print(f"finished before, read from {folder}: {len(done)} of {len(jobs)} (force=true computes them again)\n")
    print(header())
    origin = provenance("cpu") if todo else {}
    results: list[tuple[Job, dict[str, Any]]] = []
    with LiveTable([job.label for job in todo], PARTS) as table:
        fresh = measured(todo, config["workers"] or cores(), table) if todo else iter(())
        for job in jobs:
            if job.name in done:
                measurements = done[job.name]
            else:
                _, measurements = next(fresh)
                identity = {name: value for name, value in job.config.items() if name not in UNRECORDED}
                records.write(
                    records.Record("verify", job.study, job.name, job.key, "finished", identity, measurements, origin),
                    folder,
                )
                table.verdicts[job.label] = verdict(measurements)
            results.append((job, measurements))
            print(row(job.bound, job.problem, measurements), flush=True)
            for values in measurements["left_out"]:
                print(f"    left out: {values}")
    return conclude(results)


def conclude(results: Sequence[tuple[Job, dict[str, Any]]]) -> int:
    """Details of what failed, or of everything if it is one job; then the last line and the exit code."""
    failed = {bound for bound in dict.fromkeys(job.bound for job, _ in results) if not succeeded(bound, results)}
    same = self_compared(results)
    failed |= same.keys()
    for job, measurements in results:
        if len(results) == 1 or job.bound in failed:
            print("\n" + "\n".join(details(f"{job.bound} on {job.problem}", measurements)))
    if any(job.config["tier"] == "full" for job, _ in results):
        print("\n".join(thin_lines([(job.bound, measurements) for job, measurements in results])))
    for bound, lines in same.items():
        print(f"\n{bound}: no check tells the two sides of {', '.join(lines)} apart; is each compared with itself?")
    print(f"\n{conclusion(results, failed)}")
    return 1 if failed else 0


def self_compared(results: Sequence[tuple[Job, dict[str, Any]]]) -> dict[str, list[str]]:
    """Bound -> lines whose two sides are never told apart, for bounds whose sweep was run as it stands and as a whole.

    In a smaller one that is no wonder: a line is an equality on some problems and settings.
    """
    found = {}
    for bound in dict.fromkeys(job.bound for job, _ in results if job.study == STUDY):
        of_bound = [(job, m) for job, m in results if job.bound == bound]
        whole = {job.problem for job, _ in of_bound} >= set(of_bound[0][0].config["bound"]["problems"])
        if whole and (lines := indistinct([m for _, m in of_bound])):
            found[bound] = lines
    return found


def conclusion(results: Sequence[tuple[Job, dict[str, Any]]], failed: set[str]) -> str:
    """The last line: about the theorems, or about the refuted statements if nothing else was run."""
    false = {job.bound for job, m in results if m["refuted"]}
    refuted = {job.bound for job, m in results if m["refuted"] and m["violations"]}
    proved = {job.bound for job, _ in results} - false
    verdicts = [(job, verdict(m)) for job, m in results]
    unresolved = [f"{job.bound} on {job.problem}" for job, word in verdicts if word == "UNRESOLVED"]
    broken = failed - {job.bound for job, word in verdicts if word == "UNRESOLVED"}
    broken |= {job.bound for job, word in verdicts if job.bound in failed and word in ("FAILS", "NOT REFUTED")}
    lines = [line for _, m in results for line in m["lines"].values()]
    checks = inequality_checks(lines)
    violations = sum(m["violations"] for _, m in results if not (m["refuted"] and proved))
    controls = [control for _, m in results for control in m["controls"]]
    word = "HOLDS" if proved else "REFUTED" if refuted else "NOT REFUTED"
    parts = [
        f"{len(proved)} bounds" if proved else f"{len(false)} published statements",
        f"{sum(line['checks'] for line in lines)} checks",
        f"{checks['resolved']} of {checks['claims']} inequality checks resolved ({share(checks)})",
        f"{violations} violations",
        f"{sum(c['rejected'] for c in controls)} of {len(controls)} negative controls rejected",
    ]
    for what, names in (("refuted as expected", refuted), ("refuted on other families", false - refuted)):
        if names - failed:
            parts.append(f"{what}: {', '.join(sorted(names - failed))}")
    last = f"{'FAILS' if broken else 'UNRESOLVED' if unresolved else word}: {', '.join(parts)}"
    for what, names in (("unresolved", unresolved), ("failed", sorted(broken))):
        last += f"; {what}: {', '.join(names)}" if names else ""
    return last


def succeeded(bound: str, results: Sequence[tuple[Job, dict[str, Any]]]) -> bool:
    """A theorem holds on every family; a refuted statement is violated on at least one of all that it applies to."""
    of_bound = [(job, measurements) for job, measurements in results if job.bound == bound]
    verdicts = [verdict(measurements) for _, measurements in of_bound]
    if any(measurements["refuted"] for _, measurements in of_bound):
        all_families = {job.problem for job, _ in of_bound} >= set(of_bound[0][0].config["bound"]["problems"])
        return "FAILS" not in verdicts and ("REFUTED" in verdicts or not all_families)
    return all(word == "HOLDS" for word in verdicts)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spelled(arguments: Sequence[str]) -> list[str]:
    """bound=a1,b1 -> bounds=[a1,b1], unless --multirun makes one run of each.

    >>> spelled(["bound=a1,b1", "tier=full"])
    ['bounds=[a1,b1]', 'tier=full']
    """
    if {"-m", "--multirun"} & set(arguments):
        return list(arguments)
    result = []
    for item in arguments:
        name, _, value = item.partition("=")
        result.append(f"{name}s=[{value}]" if name in ("bound", "problem") and "," in value else item)
    return result


def require_named(arguments: Sequence[str]) -> None:
    """Raise ValueError for a value inside a bound or a family that is not named: it has no meaning for all of them."""
    for group in ("bound", "problem"):
        inside = [item for item in arguments if item.lstrip("+~").startswith(f"{group}.")]
        if inside and not any(item.startswith(f"{group}=") for item in arguments):
            raise ValueError(f"{inside[0]} is not possible without {group}=NAME: it belongs to one {group}")


codes: list[int] = []
"""Exit codes of the runs of this process: Hydra drops what the runs of a multirun return."""


OmegaConf.register_new_resolver("root", lambda: str(records.ROOT), replace=True)  # of places in conf/verify.yaml


@hydra.main(config_path="../conf", config_name="verify", version_base="1.3")
def main(config: DictConfig) -> None:
    try:
        codes.append(run(plan(list(HydraConfig.get().overrides.task))))
    except (ValueError, InstantiationException, OmegaConfBaseException, ConfigCompositionException) as error:
        # Hydra wraps what a constructor raises and adds its own words; the cause is the message.
        wrapped = isinstance(error, InstantiationException) and error.__cause__
        print(f"error: {in_one_line(str(wrapped or error), HydraConfig.get().overrides.task)}", file=sys.stderr)
        codes.append(2)


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.argv[1:] = spelled(words)
    with refused(words):
        require_plain(words)
        require_named(sys.argv[1:])
        main()
    sys.exit(max(codes, default=0))
