#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A PyTorch model under a deadline, profiled first."""

import flamed
import torch

device = "cuda" if torch.cuda.is_available() else "cpu"
model = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)).to(device).eval()
image = torch.rand(1, 3, 224, 224, device=device)


def infer(_point=None):
    """One whole inference: launched, and waited for. Ended at the launch, a request would not cover the execution."""
    with torch.no_grad():
        out = model(image)
    if device == "cuda":
        torch.cuda.synchronize()
    return out


with flamed.Flamed() as governor:
    if governor.connected:
        print(governor.profile(infer, "small-cnn"), "operating points measured")
    with governor.session("small-cnn", deadline="33ms") as session:
        for _ in range(300):
            with session.request():
                infer()
        print("%d requests, %d missed" % session.counts())
