"""One thread a test process: small tensors, the same bits whatever the machine, and a short look at its speed."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# a command of seconds must not measure the machine for ten; what it measures, no test reads
os.environ.setdefault("MUTRANSFER_CALIBRATION_SECONDS", "1")

import torch

torch.set_num_threads(1)
