# SPDX-License-Identifier: MIT
"""Manifests by which the Vulkan loader finds the layers of tests."""
import json
import os


def write(folder, name, library, **more):
    """A layer that is named in VK_INSTANCE_LAYERS, or, with variables that enable and disable it, an implicit one.
    Returns the folder, for VK_LAYER_PATH."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{name}.json"), "w", encoding="utf-8") as file:
        json.dump({"file_format_version": "1.2.0", "layer": {
            "name": name, "type": "GLOBAL", "library_path": os.path.abspath(library), "api_version": "1.3.0",
            "implementation_version": "1", "description": "a test", **more}}, file)
    return folder
