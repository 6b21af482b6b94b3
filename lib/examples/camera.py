#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A camera loop with OpenCV under a deadline for each frame.

    camera.py                        the first camera, thirty frames a second
    camera.py --frames 300 --size 640x480
                                     no camera: a moving pattern
"""

import argparse
import time

import cv2
import flamed
import numpy

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="edges", help="name that flamed keeps the surface under")
parser.add_argument("--rate", default="30fps", help="frames a second")
parser.add_argument("--frames", type=int, default=0, help="stop after this many frames; 0: never")
parser.add_argument("--size", help="WIDTHxHEIGHT of a generated picture, instead of a camera")
options = parser.parse_args()


def pictures():
    """Frames of the camera, or of a pattern that moves."""
    if not options.size:
        camera = cv2.VideoCapture(0)
        while True:
            good, picture = camera.read()
            if not good:
                raise SystemExit("no picture from the camera; --size WIDTHxHEIGHT needs none")
            yield picture
    width, height = map(int, options.size.split("x"))
    row = numpy.arange(width, dtype=numpy.uint8)
    for shift in range(1 << 30):
        yield numpy.tile(numpy.roll(row, shift), (height, 1))


def infer(picture):
    """Put your network here."""
    return cv2.Canny(cv2.GaussianBlur(picture, (5, 5), 0), 50, 150)


with flamed.Flamed() as governor, governor.stream(options.model, rate=options.rate) as frames:
    period = flamed.seconds(options.rate)
    count, due = 0, time.monotonic()
    for picture in pictures():
        with frames.request(wait=True):
            infer(picture)
        count += 1
        if count == options.frames:
            break
        due = max(due + period, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0)
    ended, missed = frames.counts()
    print(f"{count} frames, {ended} counted by flamed, {missed} of them late")
