"""kafka-python, in a virtual environment of its own."""

import os
import sys

from harness import CACHE, HERE, Suite, install, must

# The three codecs besides gzip come as packages of their own.
PACKAGES = ["kafka-python==3.0.12", "python-snappy==0.7.3", "lz4==4.4.5", "zstandard==0.25.0"]


def prepare():
    def make(folder):
        must([sys.executable, "-m", "venv", folder])
        must([os.path.join(folder, "bin", "pip"), "install", "--quiet", *PACKAGES])

    install("python", " ".join(PACKAGES), make)


def check_all(table, bootstrap, run_id):
    interpreter = os.path.join(CACHE, "python", "bin", "python")
    # The sources' folders stay free of what Python would cache in them.
    for script, client in (("checks.py", "kafka-python"), ("groups.py", "kafka-python groups")):
        path = os.path.join(HERE, "python", script)
        Suite(table, client, bootstrap).program([interpreter, "-B", path, bootstrap, run_id])
