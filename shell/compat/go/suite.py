"""franz-go: its client for produce, direct consumption and groups, kadm for administration."""

import os

from harness import CACHE, HERE, Suite, install, must

HOME = os.path.join(HERE, "go")


def prepare():
    names = ("go.mod", "go.sum", "main.go", "fleet.go", "groups.go")
    sources = "".join(open(os.path.join(HOME, name)).read() for name in names)

    def make(folder):
        must(["go", "build", "-o", os.path.join(folder, "checks"), "."], cwd=HOME)

    install("go", sources, make)


def check_all(table, bootstrap, run_id):
    Suite(table, "franz-go", bootstrap).program([os.path.join(CACHE, "go", "checks"), bootstrap, run_id])
