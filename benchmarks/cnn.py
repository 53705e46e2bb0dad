"""How fast does the torch backend train, next to a plain loop with a DataLoader?

    python benchmarks/cnn.py [--out FILE.md] [--rounds N] [--device auto|cpu|cuda]

BasicNet (mehta2019), batch 40, images of 32x32 pixels in three channels, Adam with L2, mirrored at
random. All figures are ratios of two programs that take turns on the same device. The loop is what
its users write: a Dataset that normalises and mirrors each image, a DataLoader, zero_grad, forward,
backward, step, loss.item() for the log every 50 steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from measure import Interference, Report, Run, cpu_name, processors, take_turns, versions
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from regdyn.cnn import CnnConfig, Images, train
from regdyn.cnn._batches import ImageStore
from regdyn.cnn._run import Run as TorchRun
from regdyn.cnn._run import make_store
from regdyn.cnn._turns import torch_settings
from regdyn.cnn.images import prepare_images

BATCH, ROUNDS = 40, 5
STEPS = {"cpu": 12, "cuda": 400}
WANTED = {"cpu": 1.0, "cuda": 3.0}
PACKED, PACKED_STEPS, WANTED_PACKED = {"cpu": processors(), "cuda": 8}, {"cpu": 300, "cuda": 2000}, 2.0
LOADERS = {"cpu": (0, 2), "cuda": (2, 8)}
"""Numbers of worker processes with which the loop is tried."""

TABLE_1 = {"rows": 70, "seeds": 3, "steps": 325 * 50_000 // BATCH}


def random_images(examples: int = 4000) -> Images:
    """In the shape of CIFAR-10."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (examples, 32, 32, 3), dtype=np.uint8)
    y = np.arange(examples) % 10
    return prepare_images("random", x, y, x[:500], y[:500])


class Files(Dataset[tuple[Tensor, int]]):
    """Images one at a time, as a data set of torchvision gives them."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.mean = torch.tensor(images.mean, dtype=torch.float32)[:, None, None]
        self.std = torch.tensor(images.std, dtype=torch.float32)[:, None, None]

    def __len__(self) -> int:
        return len(self.images.y_train)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = torch.tensor(self.images.x_train[index].transpose(2, 0, 1), dtype=torch.float32)
        x = (x - self.mean) / self.std
        return x.flip(2) if torch.rand(()) < 0.5 else x, int(self.images.y_train[index])


def make_config(images: Images, device: str, steps: int, **changes: Any) -> CnnConfig:
    given = dict(data=images, model="basicnet", batch=BATCH, flip=True, steps=steps, times=[steps],
                 device=device)  # fmt: skip
    return CnnConfig(**given | changes)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(run: Run, device: str) -> float:
    """Of the process, or of the GPU, after this run as its first, in MiB (on Linux)."""
    run(0)
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def regdyn_run(images: Images, device: str, precision: str = "auto") -> Run:
    """The steps of a run without what is recorded at its end."""
    config = make_config(images, device, STEPS[device] + 10, precision=precision)
    store: ImageStore = make_store(config)

    def run(seed: int) -> tuple[float, NDArray]:
        with torch_settings(processors()):
            stream = torch.cuda.stream(torch.cuda.Stream()) if device == "cuda" else None
            if stream is not None:
                stream.__enter__()
            going = TorchRun(dataclasses.replace(config, seed=seed), store)
            for _ in range(10 if device == "cuda" else 2):
                going.step()
            wait(device)
            begin = time.perf_counter()
            for _ in range(STEPS[device]):
                going.step()
            wait(device)
            seconds = time.perf_counter() - begin
            if stream is not None:
                stream.__exit__(None, None, None)
        return seconds, next(going.model.parameters()).detach().float().cpu().numpy()

    return run


def loop_run(images: Images, device: str, workers: int) -> Run:
    config = make_config(images, device, 1)
    rule = config.rule

    def run(seed: int) -> tuple[float, NDArray]:
        torch.manual_seed(seed)
        model = config.make_model().to(device)
        adam = torch.optim.Adam(
            model.parameters(), lr=rule.lr, betas=(rule.beta1, rule.beta2), eps=rule.eps,
            weight_decay=config.lam,
        )  # fmt: skip
        loader = DataLoader(
            Files(images), BATCH, shuffle=True, drop_last=True, num_workers=workers,
            pin_memory=device == "cuda", persistent_workers=workers > 0,
        )  # fmt: skip
        loss_of, batches = nn.CrossEntropyLoss(), iter(loader)
        warm_up = 10 if device == "cuda" else 2
        begin = 0.0
        for step in range(STEPS[device] + warm_up):
            if step == warm_up:
                wait(device)
                begin = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                batches = iter(loader)
                batch = next(batches)
            x, y = (each.to(device, non_blocking=True) for each in batch)
            adam.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            adam.step()
            if step % 50 == 0:
                loss.item()
        wait(device)
        seconds = time.perf_counter() - begin
        return seconds, next(model.parameters()).detach().cpu().numpy()

    return run


def packed_run(device: str, together: bool) -> Run:
    """Runs of the quarter-width network on the digits, side by side or one after the other."""

    def run(seed: int) -> tuple[float, NDArray]:
        steps = PACKED_STEPS[device]
        configs = [
            make_config("digits", device, steps, model="basicnet:width=0.25", flip=False, seed=seed + k)  # type: ignore[arg-type]
            for k in range(PACKED[device])
        ]
        begin = time.perf_counter()
        if together:
            results = train(configs, side_by_side=PACKED[device])
        else:
            results = [train([config])[0] for config in configs]
        return time.perf_counter() - begin, results[-1].gamma[0][-1]

    return run


def against_a_loop(report: Report, images: Images, device: str, rounds: int) -> None:
    report.write(
        "## regdyn over a plain loop", "",
        f"BasicNet, {STEPS[device]} steps after a warm-up. Workers: processes of the DataLoader.",
    )  # fmt: skip
    ours = regdyn_run(images, device)
    peak = peak_memory(ours, device)
    paired = take_turns([(ours, loop_run(images, device, n)) for n in LOADERS[device]], rounds)
    worst = min(pair.median for pair in paired)
    rows = []
    for workers, pair in zip(LOADERS[device], paired):
        speeds = (f"{STEPS[device] / seconds:,.1f}" for seconds in pair.seconds)
        rows.append([str(workers), *speeds, f"{pair.median:.2f}", pair.spread])
    report.table(["workers", "regdyn, steps/s", "loop, steps/s", "ratio", "least – greatest"], rows)
    report.want(
        f"BasicNet over the faster loop: {worst:.2f}", f"≥ {WANTED[device]:g}", worst >= WANTED[device]
    )
    speed = STEPS[device] / paired[0].seconds[0]
    whose = "on the device" if device == "cuda" else "of the process, torch included"
    report.write(f"Peak memory {whose}: {peak:,.0f} MiB.", "")
    if device == "cuda":
        hours = TABLE_1["rows"] * TABLE_1["seeds"] * TABLE_1["steps"] / speed / 3600
        report.write(
            "At that speed Table 1 of mehta2019 "
            f"({TABLE_1['rows']} rows x {TABLE_1['seeds']} seeds x {TABLE_1['steps']:,} steps) takes "
            f"{hours:,.0f} hours of this GPU, one run at a time.", "",
        )  # fmt: skip


def narrow_numbers(report: Report, images: Images, device: str, rounds: int) -> None:
    report.write("## bfloat16 over float32", "", "The same steps, `--precision bfloat16` and `full`.")
    narrow, full = (regdyn_run(images, device, precision) for precision in ("bfloat16", "full"))
    (pair,) = take_turns([(narrow, full)], rounds)
    speeds = (f"{STEPS[device] / seconds:,.1f}" for seconds in pair.seconds)
    header = ["bfloat16, steps/s", "float32, steps/s", "ratio", "least – greatest"]
    report.table(header, [[*speeds, f"{pair.median:.2f}", pair.spread]])


def packing(report: Report, device: str, rounds: int) -> None:
    count = PACKED[device]
    report.write(
        "## Runs side by side over one after the other", "",
        f"{count} runs of the quarter-width BasicNet on the digits, {PACKED_STEPS[device]} steps each, "
        "start and measurements at the end included.",
    )  # fmt: skip
    together, alone = packed_run(device, True), packed_run(device, False)
    together(0)
    (pair,) = take_turns([(together, alone)], rounds)
    steps = count * PACKED_STEPS[device]
    speeds = (f"{steps / seconds:,.0f}" for seconds in pair.seconds)
    header = ["runs", "side by side, steps/s", "one after the other, steps/s", "ratio",
              "least – greatest"]  # fmt: skip
    report.table(header, [[str(count), *speeds, f"{pair.median:.2f}", pair.spread]])
    if device == "cuda":
        what = f"{count} runs side by side: {pair.median:.2f}"
        report.want(what, f"≥ {WANTED_PACKED:g}", pair.median >= WANTED_PACKED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    device = CnnConfig(device=options.device).device
    report, others = Report(), Interference()
    gpu = [f"- {torch.cuda.get_device_name()}"] if device == "cuda" else []
    report.write(
        "# Benchmark of the torch backend", "", *gpu,
        f"- {cpu_name()}, {processors()} processors; torch has {torch.get_num_threads()} threads",
        f"- {versions()}",
        f"- medians of {options.rounds} pairs", "",
    )  # fmt: skip
    images = random_images()
    against_a_loop(report, images, device, options.rounds)
    narrow_numbers(report, images, device, options.rounds)
    packing(report, device, options.rounds)
    get_reusable_executor().shutdown()  # whose time would count as that of other programs
    report.finish(others, options.out)


if __name__ == "__main__":
    main()
