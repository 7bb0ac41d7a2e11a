"""KafkaJS. Its consumer works in groups only, so producer and admin are checked, and offsets stand for reading."""

import os
import shutil

from harness import CACHE, HERE, Suite, install, must

HOME = os.path.join(HERE, "node")


def prepare():
    package = os.path.join(HOME, "package.json")

    def make(folder):
        shutil.copy(package, folder)
        must(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"], cwd=folder)

    install("node", open(package).read(), make)


def check_all(table, bootstrap, run_id):
    modules = {**os.environ, "NODE_PATH": os.path.join(CACHE, "node", "node_modules")}
    Suite(table, "kafkajs", bootstrap).program(["node", os.path.join(HOME, "checks.js"), bootstrap, run_id], env=modules)
