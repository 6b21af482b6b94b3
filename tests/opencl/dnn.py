#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""An inference program without any use of flamed: OpenCV's DNN module on OpenCL, a generated
network (weights random, shapes of the real one, fewer channels). Prints a hash of all its outputs.
usage: dnn.py mobilenet|vgg RUNS [PAUSE_MS]"""
import hashlib, os, signal, sys, time

os.environ.setdefault("OPENCV_OPENCL_DEVICE", ":CPU:")
os.environ.setdefault("OPENCV_DNN_OPENCL_ALLOW_ALL_DEVICES", "1")
os.environ.setdefault("OPENCV_OCL4DNN_DISABLE_AUTO_TUNING", "1")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
import cv2  # noqa: E402
import numpy as np  # noqa: E402


class Darknet:
    """A network in Darknet's format: text and weights."""

    def __init__(self, size):
        self.size, self.channels = size, 3
        self.text = [f"[net]\nwidth={size}\nheight={size}\nchannels=3"]
        self.weights = []
        self.random = np.random.RandomState(7)

    def conv(self, filters, size, stride=1, groups=1, act="relu"):
        fan = self.channels // groups * size * size
        self.text.append(f"[convolutional]\nbatch_normalize=0\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\n"
                         f"groups={groups}\nactivation={act}")
        self.weights += [self.random.randn(filters) * 0.01, self.random.randn(filters * fan) * np.sqrt(2 / fan)]
        self.channels = filters

    def layer(self, text):
        self.text.append(text)

    def load(self):
        head = np.array([0, 1, 0, 0], "<i4").tobytes()
        data = np.concatenate(self.weights).astype("<f4").tobytes()
        cfg = ("\n\n".join(self.text) + "\n").encode()
        return cv2.dnn.readNetFromDarknet(np.frombuffer(cfg, np.uint8), np.frombuffer(head + data, np.uint8))


def mobilenet():
    """Inverted residuals: expand, depthwise (a launch a channel in OpenCV), project. Many small launches."""
    net = Darknet(32)
    net.conv(4, 3, 2)
    for filters, stride in ((4, 1), (4, 1), (6, 2), (6, 1), (8, 2), (8, 1)):
        inner = net.channels * 3
        net.conv(inner, 1)
        net.conv(inner, 3, stride, groups=inner)
        net.conv(filters, 1, act="linear")
    net.layer("[avgpool]")
    return net


def vgg():
    """Plain 3x3 convolutions and pools. Few heavy launches."""
    net = Darknet(32)
    for filters, count in ((8, 2), (16, 2), (24, 3)):
        for _ in range(count):
            net.conv(filters, 3)
        net.layer("[maxpool]\nsize=2\nstride=2")
    net.layer("[avgpool]")
    return net


def main():
    kind, runs = sys.argv[1], int(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that libraries loaded with it report
    pause = float(sys.argv[3]) / 1000 if len(sys.argv) > 3 else 0
    cv2.setNumThreads(1)
    cv2.ocl.setUseOpenCL(True)
    made = {"mobilenet": mobilenet, "vgg": vgg}[kind]()
    net = made.load()
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_OPENCL)
    if not cv2.ocl.useOpenCL():
        print("no OpenCL device that OpenCV can use", file=sys.stderr)
        return 77
    digest, random = hashlib.sha256(), np.random.RandomState(3)
    times = []
    for _ in range(runs):
        image = random.rand(1, 3, made.size, made.size).astype("f4")
        begin = time.perf_counter()
        net.setInput(image)
        digest.update(net.forward().tobytes())
        times.append(time.perf_counter() - begin)
        time.sleep(pause)
    if os.environ.get("DNN_TIMES"):
        print(" ".join(f"{1000 * t:.2f}" for t in times), file=sys.stderr)
    print(digest.hexdigest())
    return 0


sys.exit(main())
