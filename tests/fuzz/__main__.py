"""`make fuzz`: many damaged files, a summary, and the files that did harm."""

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from .attacks import ATTACKS
from .model_file import ModelFile
from .mutations import mutated_bytes, mutated_checkpoint, mutated_model
from .sandbox import Outcome, Trial, try_file
from .seeds import SeedFile, seed_files

# The part of the mutations after which the file vouches for itself again.
_SEALED = 0.9
_SEALED_MUTATIONS = {"checkpoint": mutated_checkpoint}
# Mutations that a thread does in one folder.
_BATCH = 100


def main() -> int:
    """Returns 1 if a file did harm."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args()
    torch.set_num_threads(1)  # Torch's own threads would not survive a fork.
    with tempfile.TemporaryDirectory() as folder:
        seeds = seed_files(Path(folder))
        counts, faults = _run(seeds, options.mutations, options.seed, options.jobs)
    for name, content, trial in faults:
        options.failures.mkdir(parents=True, exist_ok=True)
        path = options.failures / name
        path.write_bytes(content)
        sys.stdout.write(f"FAULT {path}: {trial.outcome.value}: {trial.words[:2000]}\n")
    sys.stdout.write(f"{options.mutations} mutations and {len(ATTACKS)} attacks, ")
    sys.stdout.write(f"--seed {options.seed}\n")
    for outcome in Outcome:
        sys.stdout.write(f"{counts[outcome]:8} {outcome.value}\n")
    return 1 if faults else 0


Fault = tuple[str, bytes, Trial]
Results = tuple[Counter[Outcome], list[Fault]]


def _run(seeds: dict[str, SeedFile], mutations: int, seed: int, jobs: int) -> Results:
    counts, faults = _attack(seeds)
    # Threads suffice, which wait for their children nearly all the time.
    with ThreadPoolExecutor(jobs) as pool:
        batches = [
            pool.submit(_mutate, seeds, seed, range(first, min(first + _BATCH, mutations)))
            for first in range(0, mutations, _BATCH)
        ]
        for batch in batches:
            counts.update(batch.result()[0])
            faults += batch.result()[1]
    return counts, faults


def _attack(seeds: dict[str, SeedFile]) -> Results:
    """The known attacks."""
    counts: Counter[Outcome] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        for name, attack in ATTACKS.items():
            file = ModelFile.parse(seeds["lowered"].content)
            attack(file)
            content = file.sealed()
            trial = try_file(seeds["lowered"], content, Path(folder))
            counts[trial.outcome] += 1
            # What is known to be an attack may not pass for a model either.
            if trial.outcome.is_fault or trial.outcome is Outcome.RAN:
                faults.append((name, content, trial))
    return counts, faults


def _mutate(seeds: dict[str, SeedFile], seed: int, numbers: range) -> Results:
    """Mutations by their numbers: each is the same whoever does it."""
    counts: Counter[Outcome] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            generator = random.Random(f"{seed}/{number}")
            name = generator.choice(("lowered", "lowered", "lowered", "reference", "checkpoint"))
            whole = seeds[name]
            sealed = generator.random() < _SEALED
            mutate = _SEALED_MUTATIONS.get(name, mutated_model) if sealed else mutated_bytes
            content = mutate(generator, whole.content)
            trial = try_file(whole, content, Path(folder))
            counts[trial.outcome] += 1
            # What nobody sealed again must not be taken for a good file.
            if trial.outcome.is_fault or not (sealed or trial.outcome is Outcome.REFUSED):
                faults.append((f"{name}-{seed}-{number}", content, trial))
    return counts, faults


if __name__ == "__main__":
    sys.exit(main())
