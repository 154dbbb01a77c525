"""The speed of GPUs that a plan is translated into, as their maker publishes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mutransfer.training.spec import RunSpec

# Dense peak FLOP/s (without structured sparsity), SXM modules. "float32" is what torch multiplies float32 with by
# default; "tf32" needs torch.set_float32_matmul_precision("high"). The V100 has neither TF32 nor bfloat16.
#   V100: NVIDIA Tesla V100 datasheet (2018), SXM2. A100: NVIDIA A100 datasheet (2021). H100: NVIDIA H100 architecture
#   whitepaper (2022), table "GPU peak rates", SXM5; its datasheet doubles the last two, for sparsity.
PEAKS: dict[str, dict[str, float]] = {
    "V100": {"float32": 15.7e12},
    "A100": {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12},
    "H100": {"float32": 66.9e12, "tf32": 494.7e12, "bfloat16": 989.4e12},
}
# What well-tuned training of models with large matrices reaches of the peak on tensor cores (PaLM 46%, Llama 3 38-43%).
UTILISATION = 0.4


def device_hours(specs: Iterable[RunSpec], flops: Callable[[RunSpec], float]) -> str:
    """Hours of one GPU that ``specs`` take at `UTILISATION` of its peak, in a line a GPU.

    A bound from below: launching kernels, not arithmetic, limits narrow models, which stay far under it.
    """
    by_precision: dict[str, float] = {}
    for spec in specs:
        by_precision[spec.precision] = by_precision.get(spec.precision, 0.0) + flops(spec)
    lines = [f"device-hours, at least: {UTILISATION:.0%} of the published dense peak, which narrow models do not reach"]
    for gpu, peaks in PEAKS.items():
        cells = []
        for precision, total in by_precision.items():
            for name in (precision, "tf32") if precision == "float32" else (precision,):
                if name in peaks:
                    hours = total / (UTILISATION * peaks[name]) / 3600
                    cells.append(f"{name} {hours:,.3g} h ({peaks[name] / 1e12:g} TFLOP/s)")
        lines.append(f"  {gpu}: {', '.join(cells) or 'has no ' + ' or '.join(by_precision)}")
    return "\n".join(lines)
