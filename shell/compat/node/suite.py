"""KafkaJS: producer and admin, where offsets stand for reading, and its consumer, which works in groups only."""

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
    for script, client in (("checks.js", "kafkajs"), ("groups.js", "kafkajs groups")):
        Suite(table, client, bootstrap).program(["node", os.path.join(HOME, script), bootstrap, run_id], env=modules)
